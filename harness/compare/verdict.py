"""What a comparison says: better, worse, no change, or that nobody can tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.compare.baseline import Baseline
from harness.compare.ratios import ALL, THROUGHPUT, Ratio, Ratios, compare
from harness.errors import UserError
from harness.verdict import ExitCode

GATE = 1.25
TOLD = 1.05  # a smaller change is nobody's business, however certain
ERRORS_APART = 0.005  # of all operations: more errors than this besides A's are a change
LEAST_ERRORS = 5


class Change(enum.StrEnum):
    """What became of a metric."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "no change"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Comparison:
    """Two baselines compared against a gate, a factor above 1."""

    a: Baseline
    b: Baseline
    ratios: Ratios
    gate: float = GATE

    def change(self, row: Ratio) -> Change:
        """Return what became of a metric; unclear: a change beyond the gate is not ruled out."""
        ratio, low, high = row.slower
        if low > 1 and ratio >= TOLD:
            return Change.WORSE
        if high < 1 and ratio <= 1 / TOLD:
            return Change.BETTER
        inside = low >= 1 / self.gate and high <= self.gate
        return Change.SAME if inside else Change.UNCLEAR

    def of(self, *changes: Change) -> list[Ratio]:
        """Return the metrics with one of the changes, the largest change first."""
        rows = [row for row in self.ratios.rows if self.change(row) in changes]
        return sorted(rows, key=lambda row: max(row.ratio, 1 / row.ratio), reverse=True)

    @property
    def beyond(self) -> list[Ratio]:
        """Return the metrics that got worse by more than the gate."""
        return [row for row in self.of(Change.WORSE) if row.slower[0] > self.gate]

    @property
    def more_errors(self) -> str:
        """Return that B has more errors, which may make it look fast; else an empty string."""
        (bad_a, all_a), (bad_b, all_b) = _errors(self.a), _errors(self.b)
        apart = bad_b / max(all_b, 1) - bad_a / max(all_a, 1)
        if apart <= ERRORS_APART or bad_b <= 2 * bad_a + LEAST_ERRORS:
            return ""
        return f"{bad_b} of {all_b} operations failed, before {bad_a} of {all_a}"

    @property
    def blind(self) -> str:
        """Return why a change of the gate's size could not have been seen; else an empty string."""
        if not self.ratios.rows:
            return why_thin(self.a, self.b)
        seen = [r for r in self.ratios.rows if r.metric[0] == ALL and r.metric[1] != THROUGHPUT]
        width = min(row.alone for row in seen)
        if width < self.gate:
            return ""
        return (
            f"rounds differ so much that only changes beyond {width:.2f}x can be seen in all "
            f"operations together, and the gate is {self.gate:g}x; measure more rounds in turns, "
            "or on a quieter machine"
        )

    @property
    def exit_code(self) -> ExitCode:
        """Return 1 beyond the gate, 2 when that could not have been seen, else 0."""
        if self.beyond or self.more_errors:
            return ExitCode.NOT_AS_EXPECTED
        return ExitCode.UNKNOWN if self.blind else ExitCode.AS_EXPECTED


def judge(a: Baseline, b: Baseline, gate: float = GATE) -> Comparison:
    """Compare two baselines; raise UserError when their loads differ."""
    if a.load != b.load:
        raise UserError(
            f"`{a.name}` and `{b.name}` were measured under different loads ({a.scenario} and "
            f"{b.scenario}, with different topology, workers, load, times or faults); expected "
            "the same scenario with the same --set"
        )
    return Comparison(a, b, compare(a, b), gate)


def why_thin(a: Baseline, b: Baseline) -> str:
    """Return why two baselines have nothing in common that can be compared."""
    for side in (a, b):
        if not side.usable:
            reasons = sorted({one.unusable for one in side.rounds})
            return f"no usable round of `{side.name}`: {'; '.join(reasons) or 'there is none'}"
    return "no operation has enough measurements in every round, or no round is usable on both"


def _errors(side: Baseline) -> tuple[int, int]:
    return sum(one.errors for one in side.usable), sum(one.operations for one in side.usable)
