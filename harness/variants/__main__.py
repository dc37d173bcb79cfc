"""`python -m harness.variants`: run what is missing, then write the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from harness import commands
from harness.errors import UserError
from harness.files import write_between
from harness.variants import record, table
from harness.variants.cells import Cell, Matrix, missing, read_matrix

ROOT = Path(__file__).parents[2]
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
) -> None:
    """Run the matrix of matrix.yaml: ends with 0 if every cell passed, 1 if one failed, else 2."""
    matrix = read_matrix()
    wanted = [
        cell
        for cell in matrix.cells
        if _chosen(cell.scenario, names)
        and _chosen(cell.variant, variants)
        and _chosen(cell.host, hosts)
    ]
    try:
        _run_missing(wanted, reports, commands.until(budget))
    finally:  # Ctrl-C keeps what was run
        _write(matrix, reports)
    sys.exit(_code(wanted, reports))


def _chosen(name: str, among: tuple[str, ...]) -> bool:
    return not among or name in among


def _run_missing(cells: Sequence[Cell], reports: Path, until: float) -> None:
    commands.end_on_sigterm()
    for cell in missing(cells, record.read(reports)):
        if time.monotonic() >= until:
            click.echo("The budget is used up; run again to go on.")
            return
        _once(cell, reports)


def _once(cell: Cell, reports: Path) -> None:
    """Run a cell and record it; one that does not start is said and left for the next time."""
    from harness.catalogue import find_scenario

    path, options = find_scenario(cell.scenario), cell.options(reports)
    try:
        result = commands.run_one(path, cell.title, options, quiet=True)
    except UserError as error:
        click.echo(f"{cell.title}: did not start: {error}")
        return
    if result.run is None or result.judgement is None:
        click.echo(f"{cell.title}: {result.skipped or 'no verdict'}")
        return
    run = record.of(cell, result)
    record.add(reports, run)
    red = f" ({', '.join(run.red)})" if run.red else ""
    click.echo(f"{cell.title}: {run.verdict}{red}  {result.run.root}")


def _write(matrix: Matrix, reports: Path) -> None:
    page = ROOT / matrix.page
    if write_between(page, table.MARKS, table.tables(matrix, record.read(reports))):
        click.echo(f"{page} is written anew.")


def _code(cells: Sequence[Cell], reports: Path) -> int:
    """Return the command's exit code; of a cell the last verdict counts."""
    last = {run.content: run.verdict for run in record.read(reports)}
    verdicts = {last.get(cell.content, "not run") for cell in cells}
    if verdicts == {"pass"}:
        return ALL_PASSED
    return NOT_ALL if "fail" in verdicts else UNKNOWN


if __name__ == "__main__":
    main()
