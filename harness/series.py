"""A series of runs: what is missing is run within a budget, then a page gets its tables anew.

What is to be run, what a record keeps of it and what the tables say is the series' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from harness import commands
from harness.errors import UserError
from harness.options import RunOptions, RunResult
from harness.pages import write_between

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """A run that is missing. `keep` records it once it is judged, and returns what to say of it."""

    title: str
    scenario: str
    options: RunOptions
    keep: Callable[[RunResult], str]


def chosen(name: str, among: tuple[str, ...]) -> bool:
    """Tell whether an option that may be given several times lets a name through."""
    return not among or name in among


def perform(jobs: Iterable[Job], until: float, *, quiet: bool) -> None:
    """Run one after the other; none begins after `until`, by time.monotonic()."""
    commands.end_on_sigterm()
    for job in jobs:
        if time.monotonic() >= until:
            click.echo("The budget is used up; run again to go on.")
            return
        click.echo(f"{job.title}: {_once(job, quiet)}")


def _once(job: Job, quiet: bool) -> str:
    """Run and record it, return what came; one that does not start is left for the next time."""
    from harness.catalogue import find_scenario

    try:
        result = commands.run_one(find_scenario(job.scenario), job.title, job.options, quiet)
    except UserError as error:
        return f"did not start: {error}"
    if result.run is None or result.judgement is None:
        return result.skipped or "no verdict"
    return f"{job.keep(result)}  {result.run.root}"


def write_page(name: str, marks: tuple[str, str], text: str) -> None:
    """Put the tables between the marks of a page of the project, and say when that changed it."""
    page = ROOT / name
    if write_between(page, marks, text):
        click.echo(f"{page} is written anew.")
