"""capacity.html and capacity.json: one self-contained page for people, one file for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from harness.capacity import pictures, words
from harness.capacity.answers import DatabaseNeed, Scaling, Series, make_series, maxclients, scaling
from harness.capacity.sweep import Choices, Sweep
from harness.report import html
from harness.verdict import ExitCode

HERE = Path(__file__).parent
SCHEMA = 1
COLUMNS = (
    "topology", "workers", "users", "operations/s", "tokens/s", "p50 ms", "p95 ms", "p99 ms",
    "errors", "workers' cores", "Redis % core", "generator's side cores", "workers' MiB",
    "objective",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """A sweep, as far as it went, with everything that follows from it."""

    choices: Choices
    sweep: Sweep
    database: DatabaseNeed
    target: str
    command: str
    interrupted: bool = False

    @cached_property
    def series(self) -> list[Series]:
        """Return every series that has a point."""
        found = []
        for topology, workers in self.choices.series():
            if points := self.sweep.of(topology, workers):
                chosen = self.choices
                found.append(make_series(topology, workers, points, chosen.objective, chosen.cpus))
        return found

    @cached_property
    def growth(self) -> dict[str, Scaling]:
        """Return by topology how users grow with workers, where that can be told."""
        found = {}
        for topology in self.choices.topologies:
            growth = scaling([s for s in self.series if s.topology == topology])
            if growth is not None:
                found[topology] = growth
        return found

    @property
    def main_growth(self) -> Scaling | None:
        """Return the growth of the first topology that has one."""
        return next(iter(self.growth.values()), None)

    @property
    def incomplete(self) -> str:
        """Return why the results are not whole; empty when they are."""
        wanted = self.choices.per_series * len(list(self.choices.series()))
        said = []
        if self.interrupted:
            said.append(f"Interrupted after {len(self.sweep.points)} of {wanted} points.")
        for series in self.series:
            if series.knee.users is None:
                said.append(f"No knee for {words.named(series)}: {series.knee.words}.")
            if series.law is None:
                said.append(f"No law for {words.named(series)}: {series.refusal}.")
        return " ".join(said)

    @property
    def exit_code(self) -> ExitCode:
        """Return 130 when interrupted, 2 without a knee or law for every series, else 0."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.UNKNOWN if self.incomplete or not self.series else ExitCode.AS_EXPECTED

    @cached_property
    def recommendation(self) -> str:
        """Return the one paragraph."""
        return words.recommendation(
            self.series,
            self.main_growth,
            self.choices.objective,
            self.choices.cpus,
            self.sweep.failover,
        )


def write(results: Results) -> Path:
    """Write capacity.json and capacity.html into the sweep's folder; return the page's path."""
    folder = results.sweep.folder
    data = orjson.dumps(as_data(results), option=orjson.OPT_INDENT_2)
    (folder / "capacity.json").write_bytes(data + b"\n")
    page = folder / "capacity.html"
    page.write_text(render(results), encoding="utf-8")
    return page


def as_data(results: Results) -> dict[str, Any]:
    """Return capacity.json."""
    chosen = results.choices
    return {
        "schema": SCHEMA,
        "target": results.target,
        "objective": asdict(chosen.objective),
        "processors": {**asdict(chosen.cpus), "split": chosen.cpus.split},
        "disturbed": words.foreign(results.series, chosen.cpus),
        "complete": not results.incomplete,
        "incomplete": results.incomplete,
        "recommendation": results.recommendation,
        "answers": dict(answers(results)),
        "series": [_series_data(series) for series in results.series],
        "scaling": {name: _growth_data(growth) for name, growth in results.growth.items()},
        "database": {**asdict(results.database), "workers": results.database.workers},
        "failover": results.sweep.failover,
        "command": results.command,
    }


def _series_data(series: Series) -> dict[str, Any]:
    law = series.law
    fitted = law and {
        "lambda": asdict(law.lam),
        "sigma": asdict(law.sigma),
        "kappa": asdict(law.kappa),
        "r_squared": law.r_squared,
        "peak_users": law.peak_users,
    }
    return {
        "topology": series.topology,
        "workers": series.workers,
        "own_processors": series.own_processors,
        "knee": asdict(series.knee),
        "law": fitted,
        "law_refused": series.refusal,
        "cpu_ms_per_operation": series.cpu_ms,
        "redis_cpu_per_user": series.redis_cpu_per_user,
        "connections_per_worker": series.connections,
        "maxclients": maxclients(series.workers, series.connections),
        "memory": series.memory and asdict(series.memory),
        "points": [point.to_json() for point in series.points],
    }


def _growth_data(growth: Scaling) -> dict[str, Any]:
    users = {str(w): round(growth.users(w), 1) for w in (1, 2, 4, 8, 16)}
    return {
        "one": growth.one,
        "sigma": growth.sigma,
        "redis_users": growth.redis_users,
        "best": growth.best,
        "predicted_users": users,
    }


def answers(results: Results) -> list[tuple[str, list[str]]]:
    """Return question and answer, several lines each."""
    every = results.series
    best = [
        words.best_workers(
            [s for s in every if s.topology == topology],
            results.growth.get(topology),
            results.choices.cpus,
        )
        for topology in dict.fromkeys(s.topology for s in every)
    ]
    return [
        ("How many users?", [words.users_per_worker(s) for s in every]),
        ("How many workers?", best),
        ("How does it scale with users?", [words.law(s) for s in every]),
        ("Redis connections, maxclients?", [words.connections(every)]),
        ("Memory?", [words.memory(s) for s in every]),
        ("Redis processor and memory?", [words.redis(s) for s in every]),
        ("Database connections?", [words.database(results.database)]),
        ("What does a failover cost?", [words.failover(results.sweep.failover)]),
    ]


def render(results: Results) -> str:
    """Return the page."""
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    chosen, points = results.choices, results.sweep.points
    css = (html.HERE / "report.css").read_text(encoding="utf-8")
    css += (HERE / "page.css").read_text(encoding="utf-8")
    return template.render(
        css=Markup(css),  # noqa: S704  # our files
        target=results.target,
        complete=not results.incomplete,
        incomplete=results.incomplete,
        disturbed=words.foreign(results.series, chosen.cpus),
        objective=chosen.objective.words,
        measured=f"{len(points)} points of {chosen.seconds:g} s",
        recommendation=results.recommendation,
        answers=answers(results),
        plots=[Markup(plot) for plot in _plots(results)],  # noqa: S704  # svg.py escaped it
        columns=COLUMNS,
        rows=[_row(series, number, results) for series in results.series for number in _of(series)],
        how=[chosen.cpus.words, *words.method(chosen)],
        command=results.command,
    )


def _of(series: Series) -> range:
    return range(len(series.points))


def _plots(results: Results) -> list[str]:
    every = results.series
    if not any(point.operations for series in every for point in series.points):
        return []
    plots = [
        pictures.throughput(every),
        pictures.latency(every, results.choices.objective),
        pictures.processors(every),
        pictures.memory(every),
        pictures.redis(every),
    ]
    if (growth := results.main_growth) is not None:
        topology = next(iter(results.growth))
        mine = [s for s in every if s.topology == topology]
        plots.append(pictures.workers(mine, growth, min(8, max(4, growth.best))))
    return plots


def _row(series: Series, number: int, results: Results) -> list[str]:
    """Return a point as the cells of the table."""
    point = series.points[number]
    missed = results.choices.objective.missed(point)
    took = [f"{point.latency_ms.get(q, 0.0):.0f}" for q in ("p50", "p95", "p99")]
    return [
        series.topology,
        str(series.workers),
        str(point.key.users),
        f"{point.operations_per_s:.1f}",
        f"{point.tokens_per_s:.0f}",
        *took,
        f"{100 * point.error_share:.2f} %",
        f"{point.worker_cpu:.2f}",
        f"{100 * point.redis_cpu:.0f}",
        f"{point.other_cpu:.2f}",
        f"{point.worker_rss / (1 << 20):.0f}",
        f"not used: {point.unusable}"
        if point.unusable
        else f"missed: {missed}"
        if missed
        else "met",
    ]
