"""Handshakes take turns, so that a herd does not stand before everybody else at the database.

Each handshake asks the database who the token is for and what the user may see. A worker has a
few threads that read, served in order of coming: behind a thousand handshakes a request would wait
for seconds. So only a few handshakes ask at once, and the others wait here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LATE_S = 2.0


class WaitedTooLong(Exception):
    """The turn of a handshake did not come in time."""


class Turnstile:
    """At most `at_once` inside; the others wait in the order in which they came."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._since: dict[object, float] = {}  # who waits, the first one first
        self.gave_up = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._since)

    @property
    def late(self) -> bool:
        """Whether the line is so slow that nobody should join it now."""
        first = next(iter(self._since.values()), None)
        return first is not None and time.monotonic() - first > LATE_S

    @asynccontextmanager
    async def turn(self, within_s: float | None = None) -> AsyncIterator[None]:
        """Wait for a place and hold it; raise WaitedTooLong when none is free in time.

        Without `within_s` there is no bound.
        """
        await self._enter(within_s)
        try:
            yield
        finally:
            self._places.release()

    async def _enter(self, within_s: float | None) -> None:
        ticket = object()
        self._since[ticket] = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                await self._places.acquire()
        except TimeoutError:
            self.gave_up += 1
            raise WaitedTooLong from None
        finally:
            del self._since[ticket]
