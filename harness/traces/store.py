"""Keeps the spans of a run, up to a bound: whole traces or none, as far as that can be known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.history.records import Record
from harness.history.writer import HistoryWriter

OVER = 1.25  # traces that were begun may go on beyond the bound, so far


@dataclass
class SpanStore:
    """Writes spans as records; beyond `most` it begins no further trace, and counts what it drops.

    A trace of which nothing is kept is missing, and a check can say so; half a trace would look
    like one whose context was lost.
    """

    writer: HistoryWriter
    most: int
    kept: int = 0
    dropped: int = 0
    _begun: set[str] = field(default_factory=set)

    def take(self, records: Iterable[Record]) -> None:
        """Write what fits; it survives SIGKILL of this process when this returns."""
        for record in records:
            if self._fits(record["trace"]):
                fields = {name: value for name, value in record.items() if name not in ("t", "k")}
                self.writer.record("span", record["t"], **fields)
                self.kept += 1
            else:
                self.dropped += 1
        self.writer.flush()

    def _fits(self, trace: str) -> bool:
        if self.kept < self.most:
            self._begun.add(trace)
            return True
        return trace in self._begun and self.kept < OVER * self.most
