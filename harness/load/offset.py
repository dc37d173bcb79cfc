"""How far another machine's clock is from ours: the smallest round trip of some exchanges wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson

EXCHANGES = 20


@dataclass(frozen=True)
class Offset:
    """Their clock minus ours, in seconds, give or take `error`."""

    seconds: float
    error: float

    @classmethod
    def measure(cls, now: Callable[[], float], ask: Callable[[int], float]) -> Offset:
        """Ask for the other clock `EXCHANGES` times; `ask` returns its reading.

        The reading was made at some time between question and answer, so half of the round trip
        bounds the error however unequal the two ways are.
        """
        found = []
        for n in range(EXCHANGES):
            before = now()
            theirs = ask(n)
            after = now()
            found.append(cls(theirs - (before + after) / 2, (after - before) / 2))
        return min(found, key=lambda offset: offset.error)

    def drifted(self, later: Offset) -> Offset:
        """Return what to add to times taken between this and a later measurement, and its error.

        Times were taken with this offset already taken away, so what is left is the drift.
        """
        drift = later.seconds - self.seconds
        return Offset(-drift / 2, max(self.error, later.error) + abs(drift) / 2)


def with_offset(first_line: bytes, offset: Offset) -> bytes:
    """Return a history file's header with offset and error as they are known now."""
    header = orjson.loads(first_line)
    header |= {"offset": offset.seconds, "error": offset.error}
    return orjson.dumps(header) + b"\n"
