"""summary.md: the verdict for the page of a CI job, in GitHub's Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.words import ICONS, headline, ordered, outcome, quantities, status

if TYPE_CHECKING:
    from harness.checks.base import Finding
    from harness.checks.judge import Judgement
    from harness.report.saved import SavedRun

MOST_QUANTITIES = 6


def to_markdown(saved: SavedRun, judgement: Judgement) -> str:
    """Return summary.md's text."""
    lines = [
        f"## {ICONS[judgement.verdict]} {saved.name}: {judgement.verdict}",
        "",
        f"{cell(headline(judgement))} Expected {judgement.expected}: {outcome(judgement)}.",
        "",
        "| | guarantee | measured | bound |",
        "|---|---|---|---|",
        *(_row(finding) for finding in ordered(judgement.findings)),
        "",
        f"Run it again: `{saved.rerun}`. The picture is in `report.html`.",
        "",
    ]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    said = status(finding)
    reason = f"<br>**{cell(finding.reason)}**" if finding.reason else ""
    words = f"{cell(finding.sentence)}{reason}"
    measured = cell(quantities(finding, MOST_QUANTITIES))
    return f"| {ICONS[said]} {said} | {words} | {measured} | {cell(finding.bound)} |"


def cell(text: str) -> str:
    """Return text that cannot break out of a table cell."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(safe.split())
