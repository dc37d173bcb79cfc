"""report.html: one file with no outside resources, for people who were not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report import chart, traces
from harness.report.arrivals import HEADS, latency_rows
from harness.report.saved import SavedRun
from harness.report.series import Mark, Operation, Series
from harness.report.words import (
    ICONS,
    brief,
    code_of,
    headline,
    number,
    ordered,
    outcome,
    quantity,
    shortened,
    status,
)

if TYPE_CHECKING:
    from jinja2 import Template

    from harness.checks.base import Example, Finding
    from harness.checks.judge import Judgement

MOST_EVENTS = 40
MOST_BROKEN = 8  # first examples told among the events
MOST_NOTES = 30
MOST_REASONS = 4
HERE = Path(__file__).parent
FILES = {
    "plan.json": "What was decided before the run: scenario, seed, fault times, arrival timetable.",
    "run.json": "What ran: topology, workers, target, versions, phases.",
    "judgement.json": "Every finding, as the checks returned it.",
    "summary.json": "The verdict and the findings, for programs.",
    "junit.xml": "The guarantees as test cases, for CI servers.",
    "summary.md": "The verdict in a few lines, for a CI job's page.",
}
FOLDERS = {
    "history": "The record of the run, one append-only file per writing process; "
    "`harness check` judges it again.",
    "logs": "What each process of the run printed.",
}


@dataclass(frozen=True)
class Artifact:
    """One sentence about files of the run: (path, name to show) each, and their size."""

    files: list[tuple[str, str]]
    words: str
    size: str


def render(saved: SavedRun, judgement: Judgement, series: Series, picture: str, data: str) -> str:
    """Return the report as one HTML document, with what `chart.timeline` drew."""
    from markupsafe import Markup

    findings = [_finding(finding, series) for finding in ordered(judgement.findings)]
    return _template().render(
        css=Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704  # our file
        js=Markup((HERE / "report.js").read_text(encoding="utf-8")),  # noqa: S704  # our file
        picture=Markup(picture),  # noqa: S704  # svg.py escaped it
        data=Markup(data),  # noqa: S704  # chart.py escaped it
        icons=ICONS,
        name=saved.name,
        verdict=str(judgement.verdict),
        expected=str(judgement.expected),
        outcome=outcome(judgement),
        exit_code=int(code_of(judgement)),
        headline=headline(judgement),
        broken=_reasons(findings),
        story=saved.story,
        events=(events := _events(series, judgement))[:MOST_EVENTS],
        events_left_out=max(0, len(events) - MOST_EVENTS),
        has_faults=bool(series.faults),
        facts=_facts(saved, series),
        rerun=saved.rerun,
        findings=findings,
        examples=[finding for finding in findings if finding["examples"]],
        **_traces(saved.root, series),
        operations=_operations(series),
        latency_heads=HEADS,
        latencies=latency_rows((judgement.statistics or {}).get("latency", ())),
        statistics=_statistics(judgement),
        artifacts=artifacts(saved.root),
        notes=[mark for mark in series.notes if mark.kind != "debug"][:MOST_NOTES],
    )


def _traces(root: Path, series: Series) -> dict[str, Any]:
    """Return the traces that the page shows, which operations link to them, and their workers."""
    drawn = traces.drawn(root, series)
    return {
        "traces": drawn,
        "linked": {each.operation.id: each.anchor for each in drawn},
        "trace_workers": sorted({each.operation.worker for each in drawn} - {None}),
    }


def _statistics(judgement: Judgement) -> list[tuple[str, str]]:
    """Return the counts; operations and latencies have tables of their own."""
    items = (judgement.statistics or {}).items()
    return [quantity(*item) for item in items if item[0] not in ("latency", "operations")]


def _reasons(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the findings that explain the verdict: broken ones, else the unproven ones."""
    for said in ("fail", "unknown"):
        if found := [finding for finding in findings if finding["status"] == said]:
            return found[:MOST_REASONS]
    return []


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _finding(finding: Finding, series: Series) -> dict[str, Any]:
    said = status(finding)
    return {
        "name": finding.name,
        "family": finding.family,
        "sentence": finding.sentence,
        "status": said,
        "css": "na" if said == "n/a" else said,
        "reason": finding.reason,
        "bound": finding.bound,
        "quantities": [quantity(*item) for item in finding.quantities.items()],
        "examples": [
            _example(example, chart.anchor(finding.name, place), series)
            for place, example in enumerate(finding.examples)
        ],
    }


def _example(example: Example, anchor: str, series: Series) -> dict[str, Any]:
    kept = {name: series.wanted.get(name, []) for name in example.operations}
    rows = [_operation(entry, series.origin) for entries in kept.values() for entry in entries]
    return {
        "text": example.text,
        "t": example.t - series.origin,
        "anchor": anchor,
        "operations": sorted(rows, key=lambda row: row["order"]),
        "missing": ", ".join(name for name, entries in kept.items() if not entries),
    }


def _operation(entry: Operation | dict[str, Any], origin: float) -> dict[str, Any]:
    if isinstance(entry, Operation):
        took = "—" if entry.done is None else f"{1000 * (entry.done - entry.sent):.0f} ms"
        return {
            "order": entry.sent,
            "id": entry.id,
            "op": entry.op,
            "worker": "" if entry.worker is None else entry.worker,
            "sent": f"{entry.sent:.3f} s",
            "took": took,
            "outcome": entry.outcome,
            "args": brief(entry.args, without=("trace",)),
            "result": brief(entry.result),
        }
    t = entry["t"] - origin
    name = f"{entry['k']} {entry.get('event', '')}".strip()
    words = brief(entry, without=("t", "k", "event"))
    empty = dict.fromkeys(("id", "worker", "took", "outcome", "result"), "")
    return {**empty, "order": t, "op": name, "sent": f"{t:.3f} s", "args": words}


def _events(series: Series, judgement: Judgement) -> list[Mark]:
    """Return what happened in order: faults, switches, and the first example of what broke."""
    broken = [
        Mark(example.t - series.origin, f"{finding.name}: {shortened(example.text, 110)}", "error")
        for finding in judgement.findings
        if status(finding) == "fail"
        for example in finding.examples[:1]
    ]
    load = [
        Mark(phase.start, f"{phase.label} begins")
        for phase in series.phases
        if phase.kind in ("warmup", "load", "quiesce")
    ]
    return sorted([*series.story, *broken[:MOST_BROKEN], *load], key=lambda mark: mark.t)


def _facts(saved: SavedRun, series: Series) -> list[tuple[str, str]]:
    shown = {
        "seed": saved.seed,
        "topology": saved.run.get("topology", saved.scenario.get("topology")),
        "workers": saved.run.get("workers", saved.scenario.get("workers")),
        "balancer": saved.run.get("balancer"),
        "database": saved.run.get("database"),
        "target": saved.run.get("target"),
        "load": f"{number(sum(series.totals.values()))} operations"
        f" in {number((series.load_end or series.end) - series.start)} s",
        "records": _records(series),
        **(saved.run.get("versions") or {}),
    }
    return [
        (key, number(value) if key != "seed" else str(value))
        for key, value in shown.items()
        if value is not None
    ]


def _operations(series: Series) -> list[tuple[str, str, str, str]]:
    names = sorted({op for op, _ in series.totals})
    return [
        (op, *(number(series.totals[op, outcome]) for outcome in ("ok", "info", "fail")))  # type: ignore[misc]  # three items
        for op in names
    ]


def artifacts(root: Path) -> list[Artifact]:
    """Return what the run left: a sentence per file, and one per folder of many files."""
    found = []
    for name, words in FILES.items():
        if (root / name).is_file():
            found.append(_artifact(root, [root / name], words))
    for name, words in FOLDERS.items():
        if paths := sorted((root / name).glob("*")):
            found.append(_artifact(root, paths, words))
    return found


def _artifact(root: Path, paths: list[Path], words: str) -> Artifact:
    files = [(path.relative_to(root).as_posix(), path.name) for path in paths]
    return Artifact(files, words, _size(sum(path.stat().st_size for path in paths)))


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(size / 1e3, 0.1):.1f} kB"


def _records(series: Series) -> str:
    unreadable = f", {series.unreadable} of them unreadable" if series.unreadable else ""
    return f"{number(series.records)}{unreadable}"
