"""A cap on requests: spaced, with a small burst. It delays; it never drops."""

from __future__ import annotations

from collections.abc import Callable

BURST_S = 0.1  # so much of a second's requests may go at once
NOTED_S = 0.5  # a request that waited longer than this is worth a word


class Rate:
    """Hands out instants so that no more than `per_s` a second begin; 0 is no limit.

    `take` returns how many seconds to wait; the caller sleeps, so that it serves greenlets and
    tasks alike.
    """

    def __init__(self, per_s: float, now: Callable[[], float]) -> None:
        self._gap = 1 / per_s if per_s else 0.0
        self._now = now
        self._next = 0.0
        self.late = 0  # requests that had to wait for long
        self.longest = 0.0

    def take(self) -> float:
        """Return the seconds until this request may begin."""
        if not self._gap:
            return 0.0
        now = self._now()
        self._next = max(self._next, now - BURST_S) + self._gap
        wait = max(0.0, self._next - now)
        self.late += wait > NOTED_S
        self.longest = max(self.longest, wait)
        return wait
