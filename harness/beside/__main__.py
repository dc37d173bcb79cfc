"""`python -m harness.beside`: run what is missing, then write the tables."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from harness import commands
from harness.beside import record, table
from harness.beside.cells import Case, missing, read_comparison
from harness.cli import invoke
from harness.options import RunResult
from harness.series import Job, chosen, perform, write_page


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
    comparison, until = read_comparison(), commands.until(budget)
    record.add(reports, [record.take(folder) for folder in take])
    wanted = [
        c for c in comparison.cases if chosen(c.scenario, names) and chosen(c.target, targets)
    ]
    try:
        done = {run.key for run in record.read(reports)}
        jobs = (_job(case, seed, reports) for case, seed in missing(wanted, repeat, done))
        perform(jobs, until, quiet=False)
    finally:  # Ctrl-C keeps what was measured
        write_page(comparison.page, table.MARKS, table.tables(comparison, record.read(reports)))


def _job(case: Case, seed: int, reports: Path) -> Job:
    title = f"{case.scenario} on {case.target}, seed {seed}"
    return Job(title, case.scenario, case.options(seed, reports), partial(_keep, reports))


def _keep(reports: Path, result: RunResult) -> str:
    assert result.run is not None, "it was judged"
    run = record.take(result.run.root)
    record.add(reports, [run])
    return run.verdict


if __name__ == "__main__":
    sys.exit(invoke(command=main))
