"""One round: the latencies and the throughput of one run, second by second."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean, median
from typing import Any

from harness.history.records import COMPLETIONS, OK, Record

NOT_USERS = frozenset({"connect", "sign_in", "event_post", "token_probe"})  # instruments' and setup
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


class RoundFold:
    """Folds a history into the fields of a round; operations without an answer are errors."""

    def __init__(self) -> None:
        self._start = self._end = math.inf
        self._open: dict[str, Record] = {}
        self._done: list[tuple[str, float, float]] = []
        self._errors = 0
        self._late: list[float] = []

    def feed(self, records: Iterable[Record]) -> RoundFold:
        """Fold all records, which come by time."""
        for record in records:
            kind = record["k"]
            if kind == "invoke":
                self._open[record["id"]] = record
            elif kind in COMPLETIONS:
                self._completed(record)
            elif kind == "phase":
                self._phase(record)
            elif kind == "sample" and record["probe"] == "load":
                self._sample(record)
        return self

    def _phase(self, record: Record) -> None:
        if record["name"] == "load":
            self._start = record["t"]
        elif record["name"] == "quiesce":
            self._end = record["t"]

    def _completed(self, record: Record) -> None:
        asked = self._open.pop(record["id"], None)
        if asked is None or record["op"] in NOT_USERS:
            return
        if record["k"] == OK:
            self._done.append((record["op"], due(asked), record["t"]))
        elif self._start <= due(asked) < self._end:
            self._errors += 1

    def _sample(self, record: Record) -> None:
        if self._start <= record["t"] < self._end:
            self._late.append(record["late_ms"])

    def finish(self) -> dict[str, Any]:
        """Return `latencies`, `answered`, `errors` and `late_ms`."""
        span = self._end - self._start
        seconds = int(span + 1e-3) if math.isfinite(span) else 0
        slots: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(seconds)])
        answered = [0] * seconds
        for op, began, ended in self._done:
            if 0 <= (second := math.floor(began - self._start)) < seconds:
                slots[op][second].append(round(1000 * (ended - began), 3))
            if 0 <= (second := math.floor(ended - self._start)) < seconds:
                answered[second] += 1
        lost = [a for a in self._open.values() if a["op"] not in NOT_USERS]
        unanswered = sum(self._start <= due(asked) < self._end for asked in lost)
        return {
            "latencies": dict(sorted(slots.items())),
            "answered": answered,
            "errors": self._errors + unanswered,
            "late_ms": round(median(self._late or [0.0]), 3),
        }


def due(asked: Record) -> float:
    """Return when an operation was due: it queued from then on, however late it was sent."""
    invoked: float = asked["t"]
    return min(asked.get("scheduled") or invoked, invoked)
