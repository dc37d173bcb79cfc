"""Mutant: a request that needs Redis has no deadline; it waits until Redis is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from tests.mutants.broken import serve

AGAIN_S = 0.1
run_in_time = RedisClient.run


async def run_at_last(
    self: RedisClient,
    call: Callable[[Redis], Awaitable[Any]],
    idempotent: bool = False,
    deadline: float = 1.0,
) -> Any:
    """Run, and again, for as long as it takes."""
    while True:
        try:
            return await run_in_time(self, call, idempotent, deadline)
        except RedisUnavailable:
            await asyncio.sleep(AGAIN_S)


if __name__ == "__main__":
    RedisClient.run = run_at_last  # type: ignore[method-assign]  # the defect
    serve()
