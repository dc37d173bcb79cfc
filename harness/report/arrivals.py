"""The lane of planned and achieved arrivals, and the table of latencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.checks.latency import POINTS, WHOLE
from harness.report.axis import LEFT, RIGHT, WIDTH, Axis
from harness.report.lanes import PLOT, Lane, grid, round_up
from harness.report.series import Series
from harness.report.svg import bar, polyline, tag
from harness.report.words import number

HEADS = ("operation", "part", "count", *(f"{p} corrected / raw, ms" for p in POINTS))


def arrival_lane(axis: Axis, series: Series) -> Lane:
    """Draw the timetable's steps a second: as bars when they were sent, as a line when due."""
    due, sent = (_rates(axis, counts) for counts in (series.planned, series.sent))
    top = round_up(max([*due, *sent], default=1.0) or 1.0)
    drawn = grid(top, "/s")
    points = []
    for cell, (planned, achieved) in enumerate(zip(due, sent, strict=True)):
        x = axis.x(axis.start + cell * axis.cell_s)
        height = achieved / top * PLOT
        drawn += bar(x, PLOT - height, axis.cell_width - 0.6, height, "sent")
        y = PLOT * (1 - planned / top)
        points += [(x, y), (min(x + axis.cell_width, WIDTH - RIGHT), y)]
    drawn += polyline(points, "line p99")
    drawn += tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=PLOT, y2=PLOT, class_="rule")
    values = [f"{number(p)}/s planned, {number(a)}/s sent" for p, a in zip(due, sent, strict=True)]
    legend = [("sent", "sent"), ("line p99", "planned")]
    return Lane("Arrivals", "timed operations/s", PLOT + 8, drawn, values, legend)


def _rates(axis: Axis, counts: Counter[int]) -> list[float]:
    return [axis.total(counts, cell) / axis.cell_s for cell in range(axis.cells)]


def latency_rows(table: Sequence[dict[str, Any]], whole: bool = False) -> list[list[str]]:
    """Return the table's cells as text; with `whole`, only the rows of the whole measured part."""
    return [
        [
            row["op"],
            "measured part" if row["part"] == WHOLE else row["part"],
            number(row["count"]),
            *(_both(row, f"{point}_ms") for point in POINTS),
        ]
        for row in table
        if not whole or row["part"] == WHOLE
    ]


def _both(row: dict[str, Any], key: str) -> str:
    return f"{number(row['corrected'][key])} / {number(row['raw'][key])}"
