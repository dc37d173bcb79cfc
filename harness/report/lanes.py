"""The lanes of the timeline: each draws one aspect of the run and says its value at any time.

Colours are classes of report.css and mean the same in every lane: ok, info, fail.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.report.axis import LEFT, RIGHT, WIDTH, Axis
from harness.report.series import Bar, Points, Series
from harness.report.svg import bar, label, polyline, tag
from harness.report.words import number, shortened

ROW = 20.0
MOST_ROWS = 12
PLOT = 84.0
OUTCOMES = ("ok", "info", "fail")
_ROLES = {"master": "primary", "slave": "replica"}


@dataclass
class Lane:
    """One lane: its drawing (from y = 0), its height, and what it says for every cell."""

    title: str
    hint: str
    height: float
    body: str
    values: list[str]
    legend: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A named row of bars or cells."""

    name: str
    body: str


def _rows(rows: list[Row], what: str = "rows") -> tuple[str, float]:
    """Stack rows; what does not fit is said."""
    parts = []
    for place, row in enumerate(rows[:MOST_ROWS]):
        y = place * ROW
        name = shortened(row.name, 28)
        parts.append(label(LEFT - 10, y + 14, name, "row-name", "end"))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y + ROW, y2=y + ROW, class_="rule"))
        parts.append(tag("g", row.body, transform=f"translate(0 {y:.0f})"))
    height = ROW * min(len(rows), MOST_ROWS)
    if len(rows) > MOST_ROWS:
        note = f"{len(rows) - MOST_ROWS} more {what} not drawn"
        parts.append(label(LEFT, height + 14, note, "capped"))
        height += ROW
    return "".join(parts), max(height, ROW)


def grid(top: float, unit: str = "") -> str:
    """Return grid lines and labels for a linear scale from 0 to top."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = PLOT * (1 - share)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="rule"))
        text = number(round(top * share, 1)) + (unit if share else "")
        parts.append(label(LEFT - 10, y + 4, text, "tick", "end"))
    return "".join(parts)


def round_up(value: float) -> float:
    """Return the next 1, 2, 4 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(m * power for m in (1, 2, 4, 5, 10) if m * power >= value * 0.999)


def fault_lane(axis: Axis, faults: list[Bar]) -> Lane:
    """Draw one bar per fault, from injection to heal."""
    rows = []
    for fault in faults:
        x, end = axis.x(fault.start), axis.x(fault.end or axis.end)
        hint = f"{fault.label}, {fault.start:.2f} s … {fault.end or 0:.2f} s. {fault.detail}"
        drawn = bar(x, 2, end - x, ROW - 4, "fault", hint)
        said = f"{(fault.end or 0) - fault.start:.1f} s"
        rows.append(Row(fault.label, drawn + label(x + 5, 14, said, "on-fault")))
    body, height = _rows(rows, "faults")
    values = _at(axis, {fault.label: [fault] for fault in faults}, names_only=True)
    return Lane("Faults", "injected … healed", height, body, values)


def violation_lane(axis: Axis, marks: dict[str, tuple[str, list[tuple[float, str, str]]]]) -> Lane:
    """Draw where each broken guarantee was broken; a mark leads to its example below."""
    rows, counts = [], [Counter[str]() for _ in range(axis.cells)]
    for name, (status, places) in marks.items():
        drawn = ""
        for t, text, anchor in places:
            x = axis.x(t)
            diamond = f"M{x:.1f} 2l7 8-7 8-7-8z"
            hint = tag("title", text=f"{t:.2f} s: {text}")
            drawn += tag("a", tag("path", hint, d=diamond, class_=f"mark {status}"), href=anchor)
            counts[axis.cell_of(t)][name] += 1
        if not places:
            drawn = label(
                LEFT + 4, 14, "no single instant: see the guarantee's quantities", "capped"
            )
        rows.append(Row(name, drawn))
    body, height = _rows(rows, "guarantees")
    values = [", ".join(f"{name} ({n})" for name, n in cell.items()) for cell in counts]
    return Lane("Violations", "worst examples", height, body, values)


def role_lane(axis: Axis, roles: dict[str, list[Bar]]) -> Lane:
    """Draw the role of each node over time."""
    rows, spoken = [], {}
    for node in sorted(roles):
        if node.startswith("sentinel") and len(roles[node]) == 1:
            continue  # a sentinel that never changed tells nothing
        drawn = ""
        for stretch in roles[node]:
            role = _ROLES.get(stretch.kind, stretch.kind)
            x, end = axis.x(stretch.start), axis.x(stretch.end or axis.end)
            if not axis.shows(stretch.start, stretch.end or axis.end):
                continue
            class_ = f"role {role if role in ('primary', 'replica') else 'down'}"
            drawn += bar(x, 3, end - x, ROW - 6, class_, f"{node}: {role}")
            if end - x > 60:
                drawn += label(x + 5, 14, role, f"on-{class_}")
        rows.append(Row(node, drawn))
        spoken[node] = [Bar(b.start, b.end, _ROLES.get(b.kind, b.kind)) for b in roles[node]]
    body, height = _rows(rows, "nodes")
    return Lane("Redis roles", "seen directly", height, body, _at(axis, spoken))


def _at(axis: Axis, rows: dict[str, list[Bar]], names_only: bool = False) -> list[str]:
    """Say, for every cell, which bars of which row cover it."""
    values: list[list[str]] = [[] for _ in range(axis.cells)]
    for name, bars in rows.items():
        for stretch in bars:
            if not axis.shows(stretch.start, stretch.end or axis.end):
                continue
            last = axis.cell_of((stretch.end or axis.end) - 1e-6)
            for cell in range(axis.cell_of(stretch.start), last + 1):
                words = name if names_only else f"{name} {stretch.label}"
                values[cell].append(words)
    return ["; ".join(dict.fromkeys(said)) for said in values]


def load_lane(axis: Axis, series: Series) -> Lane:
    """Draw completed operations a second, stacked by outcome."""
    cells = [_sum(series.outcomes.get(n) for n in axis.buckets(c)) for c in range(axis.cells)]
    top = round_up(max([sum(cell.values()) / axis.cell_s for cell in cells], default=1) or 1)
    drawn = grid(top, "/s")
    for index, cell in enumerate(cells):
        y = PLOT
        for outcome in OUTCOMES:
            height = cell[outcome] / axis.cell_s / top * PLOT
            if height:
                y -= height
                x = axis.x(axis.start + index * axis.cell_s)
                drawn += bar(x, y, axis.cell_width - 0.6, height, outcome)
    values = [
        ", ".join(f"{number(c[o] / axis.cell_s)} {o}/s" for o in OUTCOMES if c[o] or o == "ok")
        for c in cells
    ]
    legend = [("ok", "ok"), ("info", "info: nobody knows"), ("fail", "fail: did not happen")]
    return Lane("Load", "operations/s", PLOT + 8, drawn, values, legend)


def _sum(counters: Iterable[Counter[str] | None]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter or {})
    return total


def latency_lane(axis: Axis, series: Series) -> Lane:
    """Draw p50, p95 and p99 of operations that succeeded, on a logarithmic scale."""
    quantiles = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    cells = [
        _quantiles(axis, series, cell, [q for q, _ in quantiles]) for cell in range(axis.cells)
    ]
    slowest = max([cell[-1] for cell in cells if cell], default=10.0)
    decades = max(1, math.ceil(math.log10(max(slowest, 10.0))))

    def y(ms: float) -> float:
        return PLOT * (1 - math.log10(max(ms, 1.0)) / decades)

    drawn = ""
    for decade in range(decades + 1):
        height = PLOT * (1 - decade / decades)
        drawn += tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="rule")
        text = f"{10**decade} ms" if decade < 3 else f"{10 ** (decade - 3)} s"
        drawn += label(LEFT - 10, height + 4, text, "tick", "end")
    for place, (_, name) in enumerate(quantiles):
        for piece in _pieces(
            [(_middle(axis, i), c[place]) for i, c in enumerate(cells) if c], axis
        ):
            drawn += polyline(((axis.x(t), y(ms)) for t, ms in piece), f"line {name}")
    values = [
        ", ".join(f"{n} {number(v)} ms" for (_, n), v in zip(quantiles, c, strict=False))
        for c in cells
    ]
    legend = [(name, name) for _, name in quantiles]
    return Lane("Latency", "of ok operations, log", PLOT + 8, drawn, values, legend)


def _middle(axis: Axis, cell: int) -> float:
    return axis.start + (cell + 0.5) * axis.cell_s


def _pieces(
    points: list[tuple[float, float]], axis: Axis, gap_s: float = 0.0
) -> list[list[tuple[float, float]]]:
    """Split points where time jumps, so that no line is drawn over silence."""
    gap = gap_s or axis.cell_s * 1.5
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= gap:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _quantiles(axis: Axis, series: Series, cell: int, wanted: list[float]) -> list[float]:
    values: list[float] = []
    for bucket in axis.buckets(cell):
        values.extend(series.latencies.get(bucket, ()))
    values.sort()
    return [1000 * values[min(len(values) - 1, int(q * len(values)))] for q in wanted if values]


def error_lane(axis: Axis, series: Series) -> Lane:
    """Draw one row per error, the most frequent first; darker cells hold more."""
    ranked = sorted(series.errors.items(), key=lambda item: -item[1].total())
    rows, spoken = [], [Counter[str]() for _ in range(axis.cells)]
    for (outcome, code), counts in ranked:
        cells = [axis.total(counts, cell) for cell in range(axis.cells)]
        most, drawn = max(cells), ""
        for index, count in enumerate(cells):
            if count:
                x = axis.x(axis.start + index * axis.cell_s)
                strength = 1 + int(3 * count / most)
                drawn += bar(x, 3, axis.cell_width, ROW - 6, f"{outcome} heat{min(strength, 4)}")
                spoken[index][code] += count
        rows.append(Row(f"{code}, {outcome} ({counts.total()})", drawn))
    body, height = _rows(rows, "errors")
    if not rows:
        body = label(LEFT + 4, 14, "none", "capped")
    values = [", ".join(f"{code} {n}" for code, n in cell.most_common(4)) for cell in spoken]
    return Lane("Errors", "by kind", height, body, values)


def deaf_lane(axis: Axis, series: Series, bound: float | None = None) -> Lane:
    """Draw, per worker, when canaries of some worker came late (over 0.5 s) or never.

    Within the bound after a switch it is amber, beyond it the colour of failure.
    """
    rows = [
        Row(
            f"worker {worker}",
            "".join(_deaf_bar(axis, worker, b, _deaf_class(b, series, bound)) for b in bars),
        )
        for worker, bars in sorted(series.deaf.items())
    ]
    body, height = _rows(rows, "workers")
    values = _at(
        axis,
        {
            f"w{w}": [Bar(b.start, b.end, f"deaf to {b.label}") for b in bars]
            for w, bars in sorted(series.deaf.items())
        },
    )
    return Lane("Deaf time", "canaries late or lost", height, body, values)


def _deaf_bar(axis: Axis, worker: int, stretch: Bar, class_: str) -> str:
    end = stretch.end or axis.end
    x, width = axis.x(stretch.start), axis.x(end) - axis.x(stretch.start)
    seconds = f"{end - stretch.start:.1f} s"
    hint = f"worker {worker} did not hear {stretch.label} for {seconds}"
    drawn = bar(x, 3, width, ROW - 6, class_, hint)
    if width > 46:
        return drawn + label(x + 5, 14, seconds, f"on-bar on-{class_}")
    return drawn + label(x + width + 4, 14, seconds, "tick")


def _deaf_class(stretch: Bar, series: Series, bound: float | None) -> str:
    end = stretch.end or series.end
    switches = (mark.t for mark in series.switches if stretch.start <= mark.t <= end)
    late = end - min(switches, default=stretch.start)
    return "info" if bound is not None and late <= bound else "fail"


def value_lane(
    axis: Axis, title: str, hint: str, points: dict[int, Points], bound: float | None = None
) -> Lane:
    """Draw one line per worker, and the bound as a dashed line when it is near."""
    top = max([value for line in points.values() for value in line.value], default=1.0)
    if bound is not None and top > bound / 4:
        top = max(top, bound * 1.1)
    top = round_up(max(top, 1.0))
    drawn = grid(top)
    if bound is not None and bound <= top:
        y = PLOT * (1 - bound / top)
        drawn += tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="bound")
        drawn += label(WIDTH - RIGHT, y - 4, f"bound {number(bound)}", "tick", "end")
    spoken: list[dict[int, float]] = [{} for _ in range(axis.cells)]
    for worker, line in sorted(points.items()):
        shown = [(t, value) for t, value in line if axis.shows(t, t)]
        for piece in _pieces(shown, axis, gap_s=3.0):
            drawn += polyline(
                ((axis.x(t), PLOT * (1 - min(v / top, 1))) for t, v in piece), f"line w{worker % 6}"
            )
        for t, value in shown:
            cell = spoken[axis.cell_of(t)]
            cell[worker] = max(value, cell.get(worker, 0.0))
    left_out = sum(line.total - len(line.t) for line in points.values())
    if left_out:
        drawn += label(LEFT + 4, 12, f"{left_out} later samples not drawn", "capped")
    values = [", ".join(f"w{w} {number(v)}" for w, v in cell.items()) for cell in spoken]
    legend = [(f"w{worker % 6}", f"w{worker}") for worker in sorted(points)][:MOST_ROWS]
    return Lane(title, hint, PLOT + 8, drawn, values, legend)


def work_lane(axis: Axis, series: Series) -> Lane:
    """Draw the operations that guarantees count: stops and sign-outs sent, as cells."""
    rows, spoken = [], [Counter[str]() for _ in range(axis.cells)]
    for op, name in (("stop", "stops"), ("sign_out", "sign-outs"), ("event_post", "canaries")):
        counts = Counter({n: c[op] for n, c in series.operations.items() if c[op]})
        cells = [axis.total(counts, cell) for cell in range(axis.cells)]
        most, drawn = max(cells, default=0), ""
        for index, count in enumerate(cells):
            if count:
                x = axis.x(axis.start + index * axis.cell_s)
                height = (ROW - 4) * count / most
                drawn += bar(x, ROW - height, axis.cell_width - 0.6, height, "sent")
                spoken[index][name] += count
        rows.append(Row(f"{name} ({counts.total()})", drawn))
    body, height = _rows(rows)
    values = [", ".join(f"{n} {name}" for name, n in cell.items()) for cell in spoken]
    return Lane("Sent in focus", "what guarantees count", height, body, values)
