"""Versions as an axis: every combination of them, and the first bad one of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.environments.pins import Axis, Pin, combinations
from harness.errors import UserError
from harness.options import RunOptions, RunResult
from harness.verdict import Verdict

Judge = Callable[[str], Verdict | None]  # a version's verdict; None: it could not be run


@dataclass(frozen=True)
class Cell:
    """One combination of a matrix: target (None: the scenario's own) and package versions."""

    target: str | None
    pins: tuple[Pin, ...]

    def options(self, common: RunOptions) -> RunOptions:
        """Return the options that run it."""
        return replace(common, target=self.target, pins=self.pins)

    @property
    def words(self) -> list[str]:
        """Return what tells it from the other cells, column by column."""
        return [*([self.target] if self.target else []), *(pin.version for pin in self.pins)]


def cells(targets: Sequence[str], axes: Sequence[Axis]) -> list[Cell]:
    """Return every combination; raise UserError when there is nothing to vary."""
    if not targets and not axes:
        raise UserError(
            "nothing to vary: expected --with NAME=V,V or --target NAME, such as "
            "`harness matrix SCENARIO --with redis=7.4.0,8.0.0,8.0.1`"
        )
    chosen: Sequence[str | None] = targets or [None]
    return [Cell(target, pins) for target in chosen for pins in combinations(axes)]


def red(result: RunResult) -> list[str]:
    """Return the names of the guarantees that did not hold."""
    findings = result.judgement.findings if result.judgement else []
    return [f.name for f in findings if f.applicable and f.verdict is Verdict.FAIL]


def first_bad(versions: Sequence[str], judge: Judge) -> tuple[str, str]:
    """Return the last good and the first bad version next to it.

    `versions` is sorted; its first must pass and its last must fail, and both are run to see it.
    A version without a clear verdict is left out, as if it had not been released. Raises
    UserError when an end is not what it was said to be.
    """
    left = list(versions)
    for end, wanted in ((left[0], Verdict.PASS), (left[-1], Verdict.FAIL)):
        if (verdict := judge(end)) is not wanted:
            raise UserError(f"{end} was to {wanted}, but its verdict is {verdict or 'skipped'}")
    good, bad = 0, len(left) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        verdict = judge(left[middle])
        if verdict is Verdict.PASS:
            good = middle
        elif verdict is Verdict.FAIL:
            bad = middle
        else:
            del left[middle]
            bad -= 1
    return left[good], left[bad]
