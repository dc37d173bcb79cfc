"""A limit on attempts that all workers share, and that still limits without Redis."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict

from redis.exceptions import ResponseError

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys

REMEMBERED = 10_000
DEADLINE_S = 0.5


class RateLimit:
    """At most `limit` attempts per key in each window of `window_s` seconds.

    The counter is Redis's; while that is away each worker counts for itself.
    """

    def __init__(self, redis: RedisClient | None, keys: Keys, limit: int, window_s: int) -> None:
        self._redis = redis
        self._keys = keys
        self._limit = limit
        self._window = window_s
        self._local: OrderedDict[str, int] = OrderedDict()

    async def admits(self, key: str) -> bool:
        """Count an attempt; tell whether it is within the limit."""
        name = self._keys.rate_limit(key, int(time.time() // self._window))
        count = self._count_here(name)
        if self._redis is not None:
            # while Redis is away our own count has to do
            with contextlib.suppress(RedisUnavailable, ResponseError):
                count = await self._count_shared(self._redis, name)
        return count <= self._limit

    async def _count_shared(self, redis: RedisClient, name: str) -> int:
        replies = await redis.pipeline(
            [("SET", name, 0, "EX", 2 * self._window, "NX"), ("INCR", name)],
            idempotent=False,
            deadline=DEADLINE_S,
        )
        return int(replies[1])

    def _count_here(self, name: str) -> int:
        self._local[name] = self._local.pop(name, 0) + 1
        if len(self._local) > REMEMBERED:
            self._local.popitem(last=False)
        return self._local[name]
