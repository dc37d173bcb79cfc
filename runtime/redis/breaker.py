"""Fast, honest failure: after a loss nobody waits until a probe has succeeded."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from runtime.deadline import Deadline
from runtime.redis.errors import BreakerOpen, RedisUnavailable

log = logging.getLogger(__name__)

PROBE_S = 0.1
SHORTEST_S = 0.02  # REDIS_RECONNECT_DELAY=0 must not spin
GRACE_S = 0.05  # how long a call waits for a probe before it fails


class Breaker:
    """Open from a failure until a probe, repeated in the background, succeeds."""

    def __init__(self, probe: Callable[[], Awaitable[None]], period: float | None = None) -> None:
        """`period` in seconds between two probes."""
        self._probe = probe
        self._period = PROBE_S if period is None else max(period, SHORTEST_S)
        self._closed = asyncio.Event()
        self._closed.set()
        self._task: asyncio.Task[None] | None = None
        self.reason = ""
        self.opened = 0  # times
        self.last_success = 0.0  # time.monotonic() of this shard's last answer

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return not self._closed.is_set()

    def open(self, reason: str) -> None:
        """Fail calls from now on and begin to probe."""
        self.reason = reason
        if self.is_open:
            return
        self._closed.clear()
        self.opened += 1
        self._task = asyncio.create_task(self._recover(), name="redis probe")

    async def check(self) -> None:
        """Return when calls may go on; raise BreakerOpen after a short grace."""
        if self._closed.is_set():
            return
        try:
            async with Deadline(GRACE_S):
                await self._closed.wait()
        except TimeoutError:
            raise BreakerOpen(f"not reachable: {self.reason}", refused=True) from None

    async def close(self) -> None:
        """End the probing."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _recover(self) -> None:
        while True:
            try:
                await self._probe()
            except RedisUnavailable as error:
                self.reason = error.reason
            except Exception as error:  # an answer nobody foresaw: calls must not fail for ever
                self.reason = f"{type(error).__name__}: {error}"
                log.exception("the probe of Redis failed")
            else:
                self._closed.set()
                return
            await asyncio.sleep(self._period * random.uniform(0.8, 1.2))
