"""Writing in the background what sockets changed: soon, together, and again until it is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from runtime.redis.errors import RedisUnavailable
from runtime.supervision import Loop

COALESCE_S = 0.05  # changes of this long are written together
RETRY_S = 0.25


async def write_behind(
    loop: Loop, wake: asyncio.Event, flush: Callable[[], Awaitable[None]]
) -> None:
    """Call `flush` after each `wake`, for ever; what Redis did not take is tried again."""
    while True:
        await wake.wait()
        await asyncio.sleep(COALESCE_S)
        wake.clear()
        try:
            await flush()
            loop.succeeded()
        except RedisUnavailable:
            wake.set()
            await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))
