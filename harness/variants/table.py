"""The tables: for each host, which scenario passed on which variant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.pages import markdown_table
from harness.report.words import ICONS
from harness.variants.cells import Cell, Matrix
from harness.variants.record import Run

MARKS = ("<!-- deployments -->", "<!-- end of deployments -->")


def tables(matrix: Matrix, runs: Iterable[Run]) -> str:
    """Return the page's part between the marks: a table with a row for each scenario of a host."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.content, []).append(run)
    rows = []
    places = dict.fromkeys((cell.host, cell.scenario) for cell in matrix.cells)
    for host, scenario in places:
        cells = {c.variant: c for c in matrix.cells if (c.host, c.scenario) == (host, scenario)}
        said = [_said(cells[name], found) for name in matrix.variants]
        rows.append([host, f"[{scenario}](../scenarios/{scenario}.yaml)", *said])
    shown = markdown_table(["host", "scenario", *matrix.variants], rows)
    return "\n".join([*shown, "", _summary([run for some in found.values() for run in some])])


def _said(cell: Cell, found: dict[str, list[Run]]) -> str:
    """Return how often a cell had which verdict, and what was red."""
    runs = found.get(cell.content, [])
    if not runs:
        return "not run"
    verdicts = [run.verdict for run in runs]
    counts = [f"{sign} {verdicts.count(v)}" for v, sign in ICONS.items() if v in verdicts]
    red = sorted({name for run in runs for name in run.red})
    return ", ".join(counts) + (f": {', '.join(red)}" if red else "")


def _summary(runs: Sequence[Run]) -> str:
    left = sum(bool(run.left_running) for run in runs)
    commits = ", ".join(dict.fromkeys(f"`{run.commit}`" for run in runs))
    return f"{len(runs)} runs; {left} of them left something running. Commits: {commits or 'none'}."
