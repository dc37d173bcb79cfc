"""What `harness reproduce` and `harness catalogue` do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import commands
from harness.bugs import record, tables
from harness.bugs.find import KnownBug, find_bug, known_bugs
from harness.bugs.reproduce import (
    Case,
    attempt,
    cases,
    code_of_bug,
    code_of_side,
    sum_up,
    unable,
)
from harness.pages import write_between
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.bug_specs import Side
    from harness.bugs.record import Outcome
    from harness.options import RunOptions, RunResult

MOST_SEEDS = 1_000_000


def reproduce(name: str, repeat: int, which: str, quiet: bool, choices: dict[str, Any]) -> int:
    """Run the sides of a bug in turn, `repeat` times; print and record what came."""
    bug, chosen = find_bug(name), commands.options(**choices)
    console = commands.make_console()
    commands.end_on_sigterm()
    _introduce(console, bug, chosen.seed)
    wanted, missing = _sort_out(cases(bug, which), chosen, console)
    outcomes: list[Outcome] = []
    try:
        for number in range(repeat):
            for case in wanted:  # in turn: a slow drift of the machine hits all sides alike
                seed = (chosen.seed + number) % MOST_SEEDS
                outcomes.append(_once(case, chosen, seed, quiet, console))
    finally:  # Ctrl-C keeps what was measured; it is in the track record, too
        console.print(_table(wanted, missing, outcomes))
    codes = [code_of_side(case.expected, sum_up(_of(case, outcomes))) for case in wanted]
    return code_of_bug(codes, len(missing))


def catalogue(
    names: Sequence[str], repeat: int, budget: str | None, quiet: bool, choices: dict[str, Any]
) -> int:
    """Run the sides with the fewest runs until each has `repeat`; write both tables."""
    bugs = [find_bug(name) for name in names] or list(known_bugs())
    chosen, console = commands.options(**choices), commands.make_console()
    until = commands.until(budget)
    commands.end_on_sigterm()
    try:
        able, missing = _sort_out(_lacking(bugs, repeat, chosen.reports), chosen, console)
        for case in _fewest_first(able, repeat, chosen.reports, until):
            _once(case, chosen, time.time_ns() % MOST_SEEDS, quiet, console)
    finally:
        _write_tables(chosen.reports, console)
    if not repeat:  # nothing was to be proved
        return ExitCode.AS_EXPECTED
    return _code_of_record(bugs, chosen.reports, missing)


def _introduce(console: Console, bug: KnownBug, seed: int) -> None:
    symptom = " ".join(bug.bug.symptom.split())
    for line in (f"{bug.slug}: {symptom}", f"Sources: {', '.join(bug.bug.sources)}"):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Caught by {', '.join(bug.bug.guarantees)}. First seed {seed}.", markup=False)


def _sort_out(
    wanted: Sequence[Case], chosen: RunOptions, console: Console
) -> tuple[list[Case], dict[str, str]]:
    """Install what sides need; return those that can run here, and why the others cannot."""
    missing = {}
    for case in wanted:
        if reason := unable(case, chosen, lambda text: click.echo(text, err=True)):
            missing[case.title] = reason
            said = f"{case.title} cannot run here: {reason}"
            console.print(said, markup=False, soft_wrap=True)
    return [case for case in wanted if case.title not in missing], missing


def _once(case: Case, chosen: RunOptions, seed: int, quiet: bool, console: Console) -> Outcome:
    """Run a side; once more when the run was void, which is no fault of the side's."""
    outcome = _recorded(case, chosen, seed, quiet, console)
    if outcome.void:
        console.print(f"{case.title}: that run is void, and made again", markup=False)
        outcome = _recorded(case, chosen, seed, quiet, console)
    return outcome


def _recorded(case: Case, chosen: RunOptions, seed: int, quiet: bool, console: Console) -> Outcome:
    """Run a side, add it to the track record and say what came."""

    def run(bug: KnownBug, side: Side, options: RunOptions) -> RunResult:
        return commands.run_one(bug.path, f"{bug.slug} on {side.label}", options, quiet)

    outcome = attempt(case, chosen, seed, run)
    record.add(chosen.reports, outcome)
    word = "as expected" if outcome.as_expected else f"expected {case.expected}"
    said = ", ".join(outcome.red) or outcome.reason
    line = f"{case.title}: {outcome.verdict}, {word}. {said} {outcome.run}"
    console.print(line.rstrip(), markup=False, soft_wrap=True)
    return outcome


def _of(case: Case, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.side == case.side.label]


def _table(wanted: Sequence[Case], missing: dict[str, str], outcomes: Sequence[Outcome]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("side", "expected", "came", "broken guarantees", "last run", box=box.SIMPLE_HEAD)
    for case in wanted:
        mine = _of(case, outcomes)
        red = sorted({name for one in mine for name in one.red})
        last = mine[-1].run if mine else ""
        came = tables.rate(case.expected, sum_up(mine)).replace("**", "")
        table.add_row(case.side.label, case.expected, came, ", ".join(red), last)
    for title in missing:
        table.add_row(title, "", "cannot run here")
    return table


def _runs(case: Case, reports: Path) -> int:
    """Return how many runs of a side proved something."""
    entries = record.read(reports)
    counts = record.tally(entries, case.bug.slug, case.side.label, case.bug.content)
    return counts.red + counts.green


def _lacking(bugs: Sequence[KnownBug], repeat: int, reports: Path) -> list[Case]:
    found = [case for bug in bugs for case in cases(bug)]
    return [case for case in found if _runs(case, reports) < repeat]


def _fewest_first(able: Sequence[Case], repeat: int, reports: Path, until: float) -> Iterator[Case]:
    """Yield the side with the fewest runs, again and again; none is tried more than `repeat`.

    Stops when no side lacks runs, or each would probably end after `until`, by time.monotonic().
    """
    tries = dict.fromkeys(able, 0)
    while True:
        left = until - time.monotonic()
        open_ = [c for c in able if tries[c] < repeat and _runs(c, reports) < repeat]
        open_ = [case for case in open_ if case.bug.seconds <= left]
        if not open_:
            return
        case = min(open_, key=lambda case: (_runs(case, reports), tries[case]))
        tries[case] += 1
        yield case


def _write_tables(reports: Path, console: Console) -> None:
    """Write both tables into the pages of the current folder, where there are such pages."""
    bugs = list(known_bugs())
    pages = (
        (Path("README.md"), tables.RECORD_MARKS, tables.record_table(bugs, record.read(reports))),
        (Path("docs/bugs.md"), tables.LIST_MARKS, tables.list_table(bugs)),
    )
    for page, marks, text in pages:
        if page.exists() and write_between(page, marks, text):
            console.print(f"Written: {page}", markup=False)


def _code_of_record(bugs: Sequence[KnownBug], reports: Path, missing: dict[str, str]) -> ExitCode:
    entries = record.read(reports)
    codes = [
        code_of_side(case.expected, record.tally(entries, bug.slug, case.side.label, bug.content))
        for bug in bugs
        for case in cases(bug)
        if case.title not in missing
    ]
    return code_of_bug(codes, len(missing))
