"""Tell everybody that a token was revoked: other workers, sockets, and readers of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import orjson

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.supervision import Loop, wait_until

NEVER_EXPIRES_S = 365 * 24 * 3600
RETRY_S = 0.25
ROUND_S = 1.0
KEPT = 10_000
ACTION = "revoked"


class RevocationNotices:
    """Publishes revocations, again until Redis took them. The database holds the truth anyway."""

    def __init__(
        self,
        redis: RedisClient | None,
        keys: Keys,
        close_sockets: Callable[[str], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._close_sockets = close_sockets
        self._waiting: dict[str, int | None] = {}
        self._sockets: dict[str, None] = {}
        self._changed = asyncio.Event()

    def add(self, jti: str, expires_at: int | None) -> None:
        """Have a revocation told."""
        self._sockets[jti] = None
        if self._redis is not None and len(self._waiting) < KEPT:
            self._waiting[jti] = expires_at
        self._changed.set()

    async def tell_forever(self, loop: Loop) -> None:
        """Tell what is to be told. Runs for ever."""
        while True:
            for jti in list(self._sockets):
                del self._sockets[jti]
                await self._close_sockets(jti)
            try:
                await self._tell()
                loop.succeeded()
            except RedisUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            await wait_until(self._changed, ROUND_S)

    async def _tell(self) -> None:
        if self._redis is None:
            return
        for jti, expires_at in list(self._waiting.items()):
            message = orjson.dumps({"action": ACTION, "jti": jti})
            await self._redis.pipeline([("PUBLISH", self._keys.task_commands, message)])
            left = NEVER_EXPIRES_S if expires_at is None else int(expires_at - time.time()) + 1
            if left > 0:
                key = self._keys.token_revoked(jti)
                await self._redis.pipeline([("SET", key, "1", "EX", left)])
            self._waiting.pop(jti, None)
