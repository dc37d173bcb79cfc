"""`python -m harness.variants`: run what is missing, then write the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from harness import commands
from harness.cli import invoke
from harness.options import RunResult
from harness.series import Job, chosen, perform, write_page
from harness.variants import record, table
from harness.variants.cells import Cell, read_matrix

ALL_PASSED, NOT_ALL, UNKNOWN = 0, 1, 2


@click.command()
@click.option("--budget", default=None, help="Begin no run after this time, such as 30m.")
@click.option("--scenario", "names", multiple=True, help="Only this one; may be given again.")
@click.option("--variant", "variants", multiple=True, help="Only this one; may be given again.")
@click.option("--host", "hosts", multiple=True, help="Only this one; may be given again.")
@click.option("--reports", default=Path("reports"), type=click.Path(path_type=Path))
def main(
    budget: str | None,
    names: tuple[str, ...],
    variants: tuple[str, ...],
    hosts: tuple[str, ...],
    reports: Path,
) -> int:
    """Run the matrix of matrix.yaml: ends with 0 if every cell passed, 1 if one failed, else 2."""
    matrix, until = read_matrix(), commands.until(budget)
    wanted = [
        cell
        for cell in matrix.cells
        if chosen(cell.scenario, names)
        and chosen(cell.variant, variants)
        and chosen(cell.host, hosts)
    ]
    try:
        open_ = record.missing(wanted, record.read(reports))
        perform((_job(cell, reports) for cell in open_), until, quiet=True)
    finally:  # Ctrl-C keeps what was run
        write_page(matrix.page, table.MARKS, table.tables(matrix, record.read(reports)))
    return _code(wanted, reports)


def _job(cell: Cell, reports: Path) -> Job:
    return Job(cell.title, cell.scenario, cell.options(reports), partial(_keep, cell, reports))


def _keep(cell: Cell, reports: Path, result: RunResult) -> str:
    run = record.of(cell, result)
    record.add(reports, run)
    return run.verdict + (f" ({', '.join(run.red)})" if run.red else "")


def _code(cells: Sequence[Cell], reports: Path) -> int:
    """Return the command's exit code; of a cell the last verdict counts."""
    last = {run.content: run.verdict for run in record.read(reports)}
    verdicts = {last.get(cell.content, "not run") for cell in cells}
    if verdicts == {"pass"}:
        return ALL_PASSED
    return NOT_ALL if "fail" in verdicts else UNKNOWN


if __name__ == "__main__":
    sys.exit(invoke(command=main))
