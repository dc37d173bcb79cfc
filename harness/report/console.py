"""What `run` and `check` print at the end: the verdict, the guarantees, where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.checks.latency import POINTS
from harness.report.arrivals import latency_rows
from harness.report.words import ICONS, headline, ordered, outcome, quantities, status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from harness.checks.base import Finding
    from harness.checks.judge import Judgement

_STYLES = {"pass": "green", "fail": "bold red", "unknown": "yellow", "n/a": "dim"}
MOST_QUANTITIES = 5


def print_judgement(console: Console, name: str, judgement: Judgement, report: Path | None) -> None:
    """Print a judged scenario."""
    from rich.text import Text

    style = _STYLES[judgement.verdict]
    console.print(_table(ordered(judgement.findings)))
    if rows := latency_rows((judgement.statistics or {}).get("latency", ()), whole=True):
        console.print(_latencies(rows))
    verdict = f"{ICONS[judgement.verdict]} {str(judgement.verdict).upper()}"
    line = Text.assemble((verdict, f"{style} reverse"), f" {name}: {headline(judgement)} ")
    line.append(f"Expected {judgement.expected}: {outcome(judgement)}.")
    console.print(line)
    if report is not None:
        console.print(Text(f"Report: {report}"), soft_wrap=True)


def _latencies(rows: list[list[str]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="latency", title_justify="left")
    table.add_column("operation", no_wrap=True)
    table.add_column("count", justify="right")
    for point in POINTS:
        table.add_column(f"{point}, ms", justify="right")
    for op, _, count, *points in rows:
        table.add_row(op, count, *points)
    table.caption = "corrected (from when it was due) / raw (from when it was sent); no warm-up"
    return table


def _table(findings: list[Finding]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("guarantee", ratio=3)
    table.add_column("measured", ratio=2)
    for finding in findings:
        if finding.applicable:
            table.add_row(*_row(finding))
    if apart := sum(not finding.applicable for finding in findings):
        words = Text(f"{apart} more do not apply; the report says why.", _STYLES["n/a"])
        table.add_row(Text(f"{ICONS['n/a']} n/a", _STYLES["n/a"]), words)
    return table


def _row(finding: Finding) -> tuple[Text, Text, Text]:
    from rich.text import Text

    said = status(finding)
    words = Text(finding.sentence)
    if finding.reason:
        words.append(f"\n{finding.reason}", _STYLES[said])
    measured = Text(quantities(finding, MOST_QUANTITIES))
    return Text(f"{ICONS[said]} {said}", _STYLES[said]), words, measured
