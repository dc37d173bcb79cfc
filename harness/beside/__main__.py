"""`python -m harness.beside`: run what is missing, then write the tables."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness import commands
from harness.beside import record, table
from harness.beside.cells import Case, Comparison, missing, read_comparison
from harness.errors import UserError
from harness.files import write_between

ROOT = Path(__file__).parents[2]


@click.command()
@click.option("--repeat", default=3, help="Runs of each scenario on each target, seeds 1 to this.")
@click.option("--budget", default=None, help="Begin no run after this time, such as 30m.")
@click.option("--scenario", "names", multiple=True, help="Only this one; may be given again.")
@click.option("--target", "targets", multiple=True, help="Only this one; may be given again.")
@click.option("--take", multiple=True, type=click.Path(path_type=Path), help="Take a saved run.")
@click.option("--reports", default=Path("reports"), type=click.Path(path_type=Path))
def main(
    repeat: int,
    budget: str | None,
    names: tuple[str, ...],
    targets: tuple[str, ...],
    take: tuple[Path, ...],
    reports: Path,
) -> None:
    """Run the scenarios of plan.yaml on both targets with the same seeds, and write the tables."""
    comparison = read_comparison()
    record.add(reports, [record.take(folder) for folder in take])
    wanted = [
        c for c in comparison.cases if _chosen(c.scenario, names) and _chosen(c.target, targets)
    ]
    try:
        _run_missing(wanted, repeat, reports, commands.until(budget))
    finally:  # Ctrl-C keeps what was measured
        _write(comparison, reports)


def _chosen(name: str, among: tuple[str, ...]) -> bool:
    return not among or name in among


def _run_missing(cases: list[Case], repeat: int, reports: Path, until: float) -> None:
    commands.end_on_sigterm()
    done = {run.key for run in record.read(reports)}
    for case, seed in missing(cases, repeat, done):
        if time.monotonic() >= until:
            click.echo("The budget is used up; run again to go on.")
            return
        _once(case, seed, reports)


def _once(case: Case, seed: int, reports: Path) -> None:
    """Run once and record it; one that does not start is said and left for the next time."""
    from harness.catalogue import find_scenario

    title = f"{case.scenario} on {case.target}, seed {seed}"
    path, options = find_scenario(case.scenario), case.options(seed, reports)
    try:
        result = commands.run_one(path, title, options, quiet=False)
    except UserError as error:
        click.echo(f"{title}: did not start: {error}")
        return
    if result.run is None or result.judgement is None:
        click.echo(f"{title}: {result.skipped or 'no verdict'}")
        return
    record.add(reports, [record.take(result.run.root)])
    click.echo(f"{title}: {result.judgement.verdict}  {result.run.root}")


def _write(comparison: Comparison, reports: Path) -> None:
    page = ROOT / comparison.page
    if write_between(page, table.MARKS, table.tables(comparison, record.read(reports))):
        click.echo(f"{page} is written anew.")


if __name__ == "__main__":
    main()
