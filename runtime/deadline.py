"""A deadline for answers, which does not blame the server when this process stood still.

Nor does it hide a cancellation, as `asyncio.wait_for` of Python 3.11 does when the answer comes in
the same turns of the loop: the task that was stopped would go on.

After a pause (a busy loop, a throttled container, a stopped machine) the answer lies in the socket
and the timer is overdue; asyncio runs the timer before whoever waits has read. Taken for silence,
that would drop a healthy connection and fail everything that was under way.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE_S = 0.05  # a timer that fires so late was held up with everything else
GRACE_S = 0.2  # then what came meanwhile gets so long to be read, once


class Deadline:
    """`asyncio.timeout` of some seconds, and a grace when it fires late. Raises TimeoutError."""

    __slots__ = ("_loop", "_timeout", "_timer", "_when")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._when = self._loop.time() + seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        """Begin."""
        await self._timeout.__aenter__()
        self._timer = self._loop.call_at(self._when, self._due)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the cancellation that it caused becomes TimeoutError."""
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _due(self) -> None:
        if self._loop.time() - self._when > LATE_S:
            self._timer = self._loop.call_later(GRACE_S, self._expire)
        else:
            self._expire()

    def _expire(self) -> None:
        self._timeout.reschedule(self._loop.time())
