"""Runs the selected scenarios: a red one once more, and no new one when the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from harness.ci.select import Chosen
from harness.options import RunResult
from harness.verdict import ExitCode, worst_exit

Run = Callable[[Chosen], RunResult]
Clock = Callable[[], float]


@dataclass
class Entry:
    """One scenario of the job: its runs (two when the first was red), or why there is none."""

    chosen: Chosen
    runs: list[RunResult] = field(default_factory=list)
    skipped: str = ""

    @property
    def flaky(self) -> bool:
        """Tell whether it was red once and not the second time."""
        codes = [run.exit_code for run in self.runs]
        return len(codes) == 2 and codes[1] is not ExitCode.NOT_AS_EXPECTED

    @property
    def exit_code(self) -> ExitCode:
        """Return its code: a retry never turns red into green, only into unknown."""
        if not self.runs:
            return ExitCode.MISSING_PART
        return ExitCode.UNKNOWN if self.flaky else self.runs[-1].exit_code

    @property
    def status(self) -> str:
        """Return `passed`, `failed`, `unknown`, `flaky` or `skipped`."""
        if not self.runs:
            return "skipped"
        if self.flaky:
            return "flaky"
        words = {ExitCode.AS_EXPECTED: "passed", ExitCode.NOT_AS_EXPECTED: "failed"}
        return words.get(self.exit_code, "unknown")

    @property
    def worst(self) -> RunResult:
        """Return the run that says most about a failure: the first red one, else the last."""
        red = [run for run in self.runs if run.exit_code is ExitCode.NOT_AS_EXPECTED]
        return (red or self.runs[-1:])[0]


def perform(
    chosen: Iterable[Chosen], run: Run, clock: Clock, budget_s: float | None = None
) -> Iterator[Entry]:
    """Yield an entry per scenario, in order.

    A scenario that would probably end after the budget (seconds from now) is skipped by name; the
    retry of a red one is made whatever the budget says, or its redness would be a guess.
    """
    began = clock()
    for one in chosen:
        left = None if budget_s is None else budget_s - (clock() - began)
        if left is not None and one.seconds > left:
            reason = f"it takes about {one.seconds:.0f} s, and {max(0.0, left):.0f} s are left"
            yield Entry(one, skipped=f"{reason} of the budget of {budget_s:.0f} s")
            continue
        yield _tried(one, run)


def _tried(one: Chosen, run: Run) -> Entry:
    result = run(one)
    if result.skipped:
        return Entry(one, skipped=result.skipped)
    runs = [result]
    if result.exit_code is ExitCode.NOT_AS_EXPECTED:
        again = run(one)
        runs += [] if again.skipped else [again]
    return Entry(one, runs)


def code_of_job(entries: Iterable[Entry]) -> ExitCode:
    """Return the worst code of the scenarios that ran; 4 when none did."""
    return worst_exit(entry.exit_code for entry in entries if entry.runs)
