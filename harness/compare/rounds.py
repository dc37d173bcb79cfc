"""One round: the latencies and the throughput of one run, second by second."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean, median
from typing import Any

from harness.history.measured import MeasuredPart
from harness.history.records import OK, Record, due

DROPPED = 0.05  # of the seconds: the worst ones are the machine's, more often than the target's


@dataclass(frozen=True)
class Round:
    """What one run measured in the whole seconds of its measured part.

    `latencies` holds, for each operation and second, the milliseconds of the operations that were
    due in that second and succeeded. `answered` counts those that succeeded in a second. `errors`
    are all others. `late_ms` is how late the generator's timers fired: how busy the machine was.
    `began` is Unix time; `unusable` says why the round proves nothing, or is empty.
    """

    number: int
    began: float
    run: str = ""
    latencies: dict[str, list[list[float]]] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)
    errors: int = 0
    late_ms: float = 0.0
    unusable: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the round as it stands in a baseline."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Round:
        """Read it back; raises TypeError for what is not a round."""
        return cls(**raw)

    @property
    def operations(self) -> int:
        """Return how many operations ended in the measured part."""
        return sum(self.answered) + self.errors

    @cached_property
    def kept(self) -> list[int]:
        """Return the seconds without the worst 5 %, at least one of which is dropped."""
        worst_first = sorted(range(len(self.answered)), key=self._badness, reverse=True)
        return sorted(worst_first[math.ceil(DROPPED * len(worst_first)) :])

    def _badness(self, second: int) -> float:
        """Return how slow a second was: the mean of its latencies, each by its operation's median.

        A second without any answer is the worst.
        """
        ratios = [
            value / self._typical[op]
            for op, seconds in self.latencies.items()
            for value in seconds[second]
        ]
        return fmean(ratios) if ratios else math.inf

    @cached_property
    def _typical(self) -> dict[str, float]:
        values = {op: [v for s in seconds for v in s] for op, seconds in self.latencies.items()}
        return {op: max(median(found), 1e-6) for op, found in values.items() if found}


class RoundFold(MeasuredPart):
    """Folds a history into the fields of a round; operations without an answer are errors."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[str, float, float]] = []
        self._errors = 0
        self._late: list[float] = []

    def completed(self, asked: Record, record: Record) -> None:
        """Take an operation that ended, with its invocation."""
        if record["k"] == OK:
            self._done.append((record["op"], due(asked), record["t"]))
        elif self.is_measured(due(asked)):
            self._errors += 1

    def inside(self, record: Record) -> None:
        """Take how late the generator was."""
        if record["k"] == "sample" and record["probe"] == "load":
            self._late.append(record["late_ms"])

    def finish(self) -> dict[str, Any]:
        """Return `latencies`, `answered`, `errors` and `late_ms`."""
        span = self.end - self.start
        seconds = int(span + 1e-3) if math.isfinite(span) else 0
        slots: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(seconds)])
        answered = [0] * seconds
        for op, began, ended in self._done:
            if 0 <= (second := math.floor(began - self.start)) < seconds:
                slots[op][second].append(round(1000 * (ended - began), 3))
            if 0 <= (second := math.floor(ended - self.start)) < seconds:
                answered[second] += 1
        return {
            "latencies": dict(sorted(slots.items())),
            "answered": answered,
            "errors": self._errors + self.unanswered,
            "late_ms": round(median(self._late or [0.0]), 3),
        }
