"""What users did in the measured part of a run, operation by operation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

from harness.history.records import COMPLETIONS, Record, due

NOT_USERS = frozenset({"connect", "sign_in", "event_post", "token_probe"})  # instruments' and setup


class MeasuredPart(ABC):
    """A fold over a history. Pairs the users' operations; knows where the measured part begins."""

    def __init__(self) -> None:
        self.start = self.end = math.inf
        self._open: dict[str, Record] = {}

    def feed(self, records: Iterable[Record]) -> Self:
        """Fold all records, which come by time."""
        for record in records:
            kind = record["k"]
            if kind == "phase":
                self._phase(record)
            elif kind == "invoke":
                self._open[record["id"]] = record
            elif kind in COMPLETIONS:
                asked = self._open.pop(record["id"], None)
                if asked is not None and record["op"] not in NOT_USERS:
                    self.completed(asked, record)
            elif self.start <= record["t"] < self.end:
                self.inside(record)
        return self

    def _phase(self, record: Record) -> None:
        if record["name"] == "load":
            self.start = record["t"]
        elif record["name"] == "quiesce":
            self.end = record["t"]

    def is_measured(self, t: float) -> bool:
        """Tell whether a time is inside."""
        return self.start <= t < self.end

    @property
    def unanswered(self) -> int:
        """Return how many operations that were due inside never ended."""
        users = (asked for asked in self._open.values() if asked["op"] not in NOT_USERS)
        return sum(self.is_measured(due(asked)) for asked in users)

    @abstractmethod
    def completed(self, asked: Record, record: Record) -> None:
        """Take an operation that ended, with its invocation, whenever that was."""

    @abstractmethod
    def inside(self, record: Record) -> None:
        """Take a record of another kind from inside."""
