"""What `harness bench` and `harness compare` do: measure rounds, save them, compare them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import commands
from harness.catalogue import find_scenario
from harness.errors import UserError
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from harness.compare.baseline import Baseline
    from harness.compare.rounds import Round
    from harness.compare.sides import Side
    from harness.options import RunOptions

OTHER = "against"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def bench(
    scenario: str, name: str, against: str | None, rounds: int, gate: float, chosen: RunOptions
) -> int:
    """Measure rounds and save them as a baseline; with another side, compare the two.

    Every round is saved as soon as it is measured: Ctrl-C keeps what there is.
    """
    from harness.compare.baseline import path_of
    from harness.compare.bench import Bench

    path = find_scenario(scenario)
    measuring = Bench(
        path,
        _sides(name, against, chosen),
        lambda title, options: commands.run_one(path, title, options, quiet=False),
    )
    commands.end_on_sigterm()
    for mine, one in measuring.measure(rounds):
        measuring.baselines[mine].save(path_of(mine, chosen.reports))
        _say(mine, one)
    for mine in measuring.baselines:
        click.echo(f"Baseline: {path_of(mine, chosen.reports)}")
    first, *second = measuring.baselines.values()
    return _compared(first, second[0], gate) if second else _usable(first)


def compare(first: str, second: str, gate: float, reports: Path) -> int:
    """Compare two baselines; return the exit code."""
    from harness.compare.baseline import find_baseline

    return _compared(find_baseline(first, reports), find_baseline(second, reports), gate)


def _compared(a: Baseline, b: Baseline, gate: float) -> int:
    from harness.compare.verdict import judge
    from harness.compare.words import print_comparison

    if gate <= 1:
        raise UserError(f"--gate {gate:g}: expected a factor above 1, such as 1.25")
    found = judge(a, b, gate)
    print_comparison(commands.make_console(), found)
    return found.exit_code


def _usable(one: Baseline) -> int:
    """Return 2 when no round of a baseline can be used."""
    from harness.compare.verdict import why_thin

    if one.usable:
        return ExitCode.AS_EXPECTED
    click.echo(f"harness: {why_thin(one, one)}", err=True)
    return ExitCode.UNKNOWN


def _sides(name: str, against: str | None, chosen: RunOptions) -> dict[str, Side]:
    """Return the sides by the name of their baseline; what is measured against comes first."""
    from harness.compare.sides import other_side, this_side

    if not _NAME.fullmatch(name):
        raise UserError(f"--save {name}: expected a name of letters, digits, dots and dashes")
    sides = {name: this_side(chosen)}
    return sides if against is None else {f"{name}-{OTHER}": other_side(against, chosen), **sides}


def _say(name: str, one: Round) -> None:
    said = one.unusable and f"not used: {one.unusable}"
    rate = sum(one.answered) / max(len(one.answered), 1)
    line = f"{name}, round {one.number + 1}: {said or f'{rate:.1f} operations/s'}"
    click.echo(f"{line}  {one.run}")
