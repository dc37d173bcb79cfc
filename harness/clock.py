"""One clock for every process of a machine: CLOCK_MONOTONIC, read against the run's base."""

from __future__ import annotations

import time


def monotonic() -> float:
    """Return seconds of CLOCK_MONOTONIC, which all processes of one boot share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class RunClock:
    """Seconds since the run's base; the base is a CLOCK_MONOTONIC reading."""

    def __init__(self, base: float | None = None) -> None:
        self.base = monotonic() if base is None else base

    def now(self) -> float:
        """Return seconds since the base."""
        return monotonic() - self.base
