"""The timeline picture: all lanes under one time axis, and the data its crosshair shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.report import lanes
from harness.report.arrivals import arrival_lane
from harness.report.axis import LEFT, RIGHT, WIDTH, Axis
from harness.report.lanes import Lane
from harness.report.series import Series
from harness.report.svg import bar, label, tag
from harness.report.words import ordered, status

if TYPE_CHECKING:
    from harness.checks.judge import Judgement

TOP = 64.0
GAP = 26.0
STRIP = 22.0
SVG = "http://www.w3.org/2000/svg"


def anchor(name: str, place: int) -> str:
    """Return the id of an example's section."""
    return f"example-{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}-{place}"


def timeline(series: Series, judgement: Judgement) -> tuple[str, str]:
    """Return the picture as SVG and the crosshair's data as JSON."""
    axis = Axis.of(series)
    stack = _lanes(axis, series, judgement)
    parts, y = [], TOP
    legends: list[str] = []
    for lane in stack:
        parts.append(_head(lane, y))
        parts.append(tag("g", lane.body, transform=f"translate(0 {y + STRIP:.0f})"))
        legends.append(_legend(lane, y + 14))
        y += STRIP + lane.height + GAP
    bottom = y - GAP + 6
    picture = tag(
        "svg",
        _bands(axis, series, bottom),
        *parts,
        *legends,
        _times(axis, series, bottom),
        tag("line", id="crosshair", x1=0, x2=0, y1=TOP - 20, y2=bottom, class_="crosshair"),
        viewBox=f"0 0 {WIDTH:.0f} {bottom + 30:.0f}",
        role="img",
        aria_label="Timeline of the run",
        id="timeline",
    )
    return picture, _data(axis, stack)


def picture_alone(picture: str) -> str:
    """Return what `timeline` drew as an SVG document of its own, with its colours."""
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    own = "svg { background: var(--card); font-family: system-ui, 'DejaVu Sans', sans-serif; }"
    style = f"<style>{css}\n{own}</style>"
    return picture.replace("<svg", f'<svg xmlns="{SVG}"', 1).replace(">", f">{style}", 1)


def _lanes(axis: Axis, series: Series, judgement: Judgement) -> list[Lane]:
    bounds: dict[str, float] = getattr(judgement.facts, "bounds", {}) or {}
    stack = []
    if series.faults:
        stack.append(lanes.fault_lane(axis, series.faults))
    if marks := _violations(series, judgement):
        stack.append(lanes.violation_lane(axis, marks))
    if series.roles:
        stack.append(lanes.role_lane(axis, series.roles))
    if series.planned:
        stack.append(arrival_lane(axis, series))
    stack += [lanes.load_lane(axis, series), lanes.latency_lane(axis, series)]
    stack.append(lanes.error_lane(axis, series))
    stack.append(lanes.deaf_lane(axis, series, bounds.get("deaf_time_s")))
    if connections := series.workers.get("connections"):
        stack.append(lanes.value_lane(axis, "Redis connections", "per worker", connections))
    stall_bound = bounds.get("loop_stall_ms")
    if series.stalls:
        stack.append(
            lanes.value_lane(axis, "Loop stall", "ms, worst of 0.5 s", series.stalls, stall_bound)
        )
    stack.append(lanes.work_lane(axis, series))
    return stack


def _violations(
    series: Series, judgement: Judgement
) -> dict[str, tuple[str, list[tuple[float, str, str]]]]:
    """Return, per guarantee that did not pass, its status and its examples' places."""
    return {
        finding.name: (
            status(finding),
            [
                (example.t - series.origin, example.text, "#" + anchor(finding.name, place))
                for place, example in enumerate(finding.examples)
            ],
        )
        for finding in ordered(judgement.findings)
        if status(finding) == "fail" or (status(finding) == "unknown" and finding.examples)
    }


def _head(lane: Lane, y: float) -> str:
    title = tag("text", text=lane.title, x=0, y=y + 14, class_="lane-title")
    hint = label(WIDTH - RIGHT, y + 14, lane.hint, "lane-hint", "end")
    line = tag("line", x1=0, x2=WIDTH - RIGHT, y1=y - 4, y2=y - 4, class_="lane-rule")
    return line + title + hint


def _legend(lane: Lane, y: float) -> str:
    parts, x = [], LEFT
    for class_, text in lane.legend:
        parts.append(bar(x, y - 9, 14, 10, f"key {class_}"))
        parts.append(label(x + 19, y, text, "tick"))
        x += 36 + 5.6 * len(text)
    return "".join(parts)


def _bands(axis: Axis, series: Series, bottom: float) -> str:
    """Shade focus windows and faults, and mark switches, across all lanes."""
    parts = []
    for class_, stretches in (("focus-band", series.focus), ("fault-band", series.faults)):
        for stretch in stretches:
            x, end = axis.x(stretch.start), axis.x(stretch.end or axis.end)
            parts.append(bar(x, TOP - 6, end - x, bottom - TOP + 6, class_))
    return "".join(parts)


def _times(axis: Axis, series: Series, bottom: float) -> str:
    """Draw the axis above and below, phases, and the switch with its label."""
    parts = []
    for tick in axis.ticks():
        x = axis.x(tick)
        parts.append(label(x, bottom + 16, f"{tick:g} s", "tick", "middle"))
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="lane-rule"))
    for phase in series.phases:
        if axis.start - 0.01 <= phase.start < axis.end:
            x = axis.x(phase.start)
            parts.append(tag("line", x1=x, x2=x, y1=2, y2=20, class_="lane-rule"))
            parts.append(label(x + 4, 14, phase.label, "phase"))
    for place, mark in enumerate(series.switches[:20]):
        x = axis.x(mark.t)
        parts.append(tag("line", x1=x, x2=x, y1=26, y2=bottom, class_="switch"))
        if place < 2:
            near_end = x > WIDTH - 330
            said = f"{mark.label.partition(' (')[0]} at {mark.t:.2f} s"
            y = 36 + 13 * place
            parts.append(
                label(
                    x + (-5 if near_end else 5),
                    y,
                    said,
                    "switch-label",
                    "end" if near_end else "start",
                )
            )
    return "".join(parts)


def _data(axis: Axis, stack: list[Lane]) -> str:
    data: dict[str, Any] = {
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "start": axis.start,
        "end": axis.end,
        "cell": axis.cell_s,
        "lanes": [{"name": lane.title, "values": lane.values} for lane in stack],
    }
    # "<" could close the script element that holds the data.
    return orjson.dumps(data).decode().replace("<", "\\u003c")
