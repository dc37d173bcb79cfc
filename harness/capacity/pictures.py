"""The pictures of a sweep: throughput, latency, processors, memory, users over workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.capacity.answers import Scaling, Series
from harness.capacity.objective import Objective
from harness.capacity.plots import Plot
from harness.capacity.points import MIB, Point

COLOURS = 6
CURVE = 60  # places at which a fitted law is drawn
SHOWN = 3.0  # times the objective: slower is drawn at the edge


def series_name(series: Series, many_topologies: bool) -> str:
    """Return how legends call a series."""
    count = f"{series.workers} worker{'' if series.workers == 1 else 's'}"
    return f"{series.topology}, {count}" if many_topologies else count


def throughput(all_series: Sequence[Series]) -> str:
    """Return operations a second over users, with each series' fitted law and knee."""
    plot = _plot(all_series, "Throughput", "operations/s", lambda p: p.operations_per_s)
    for place, series in enumerate(all_series):
        if series.law is not None:
            step = plot.x_most / CURVE
            xs = [step * (i or 0.05) for i in range(CURVE + 1)]
            plot.line([(x, series.law.throughput(x)) for x in xs], _colour(place))
        if series.knee.users is not None:
            plot.mark(series.knee.users, _colour(place))
    return plot.svg()


def latency(all_series: Sequence[Series], objective: Objective) -> str:
    """Return the objective's quantile over users; what is far too slow is at the edge."""
    name = objective.quantile
    edge = SHOWN * objective.latency_ms

    def took(point: Point) -> float:
        return min(point.latency_ms.get(name, 0.0), edge)

    plot = _plot(all_series, f"Latency, {name}", "ms", took, 1.1 * objective.latency_ms)
    plot.level(objective.latency_ms, f"objective {objective.latency_ms:g} ms")
    return plot.svg()


def processors(all_series: Sequence[Series]) -> str:
    """Return the workers' processor time over users."""
    return _plot(all_series, "Processors used by all workers", "cores", _worker_cpu).svg()


def redis(all_series: Sequence[Series]) -> str:
    """Return the busiest Redis server's processor time over users."""
    title = "Redis: processor time of the busiest server"
    return _plot(all_series, title, "% of a core", lambda p: 100 * p.redis_cpu).svg()


def memory(all_series: Sequence[Series]) -> str:
    """Return the workers' memory over connected users, with its slope."""
    plot = _plot(all_series, "Memory of all workers", "MiB", lambda p: p.worker_rss / MIB)
    for place, series in enumerate(all_series):
        if (line := series.memory) is not None:
            ends = (0.0, plot.x_most)
            values = [(x, (line.base + line.per_unit * x) / MIB) for x in ends]
            plot.line(values, _colour(place))
    return plot.svg()


def workers(series: Sequence[Series], growth: Scaling, most: int) -> str:
    """Return users over workers: measured ones that had own processors, and predicted ones."""
    known = {s.workers: s.knee.users for s in series if s.own_processors and s.knee.users}
    values = {w: float(known.get(w) or growth.users(w)) for w in range(1, most + 1)}
    highest = 1.1 * max(values.values())
    plot = Plot("Users over workers", "workers, a processor each", "users", 1.0, highest)
    plot.x_most = most + 0.6
    for count, users in values.items():
        kind = "measured" if count in known else "predicted"
        hint = f"{count} workers: {users:.0f} users, {kind}"
        plot.column(count, 0.6, users, f"column {kind}", hint)
    plot.legend = [("column measured", "measured"), ("column predicted", "predicted")]
    return plot.svg(list(values))


def _plot(
    all_series: Sequence[Series],
    title: str,
    unit: str,
    value: Callable[[Point], float],
    least: float = 0.0,
) -> Plot:
    """Return a plot of one value of every point over its users, a colour for each series.

    The y axis reaches at least `least`.
    """
    points = [p for series in all_series for p in series.points if p.operations]
    highest = max([value(p) for p in points] + [least])
    most_users = max((p.key.users for p in points), default=1)
    plot = Plot(title, "concurrent users", unit, most_users, highest)
    many = len({series.topology for series in all_series}) > 1
    for place, series in enumerate(all_series):
        plot.legend.append((_colour(place), series_name(series, many)))
        for point in series.points:
            if point.operations:
                y = value(point)
                said = f"{point.key.users} users: {y:.4g} {unit}"
                hint = f"{said}; not used: {point.unusable}" if point.unusable else said
                plot.dot(point.key.users, y, _colour(place), hint, bool(point.unusable))
    return plot


def _worker_cpu(point: Point) -> float:
    return point.worker_cpu


def _colour(place: int) -> str:
    return f"w{place % COLOURS}"
