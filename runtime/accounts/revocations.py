"""Tell everybody of revocations: our sockets, other workers, and readers of Redis.

Every worker looks after its own sockets, when it is told by Redis or by the database's log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.redis.wire import Argument
from runtime.supervision import Loop, wait_until

NEVER_EXPIRES_S = 365 * 24 * 3600
RETRY_S = 0.25
ROUND_S = 1.0
KEPT = 10_000
ACTION = "revoked"


@dataclass(frozen=True)
class Notice:
    """A token's end, or a change of an account. `until` is when its key may go (epoch seconds)."""

    jti: str = ""
    user_id: str = ""
    until: int | None = None
    at: int = 0

    @property
    def message(self) -> bytes:
        """What the other workers are told."""
        who = {"jti": self.jti} if self.jti else {"user": self.user_id}
        return orjson.dumps({"action": ACTION, **who})

    def mark(self, keys: Keys) -> tuple[Argument, ...] | None:
        """Return the command that leaves the mark for other readers; None when it is too late."""
        now = time.time()
        left = NEVER_EXPIRES_S if self.until is None else int(self.until - now) + 1
        if left <= 0:
            return None
        if self.jti:
            return ("SET", keys.token_revoked(self.jti), "1", "EX", left)
        return ("SET", keys.user_revoked(self.user_id), self.at, "EX", left)


class RevocationNotices:
    """Publishes notices, again until Redis took them. The database holds the truth anyway."""

    def __init__(
        self,
        redis: RedisClient | None,
        keys: Keys,
        recheck_sockets: Callable[[str], Awaitable[None]],
        lifetime_s: float | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._recheck_sockets = recheck_sockets
        self.lifetime_s = lifetime_s
        self._waiting: dict[Notice, None] = {}
        self._rooms: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()

    def token(self, jti: str, expires_at: int | None) -> None:
        """Have a token's revocation told."""
        self._add(Notice(jti=jti, until=expires_at))

    def user(self, user_id: str) -> None:
        """Have it told that an account changed, or that its tokens are void."""
        now = int(time.time())
        until = None if self.lifetime_s is None else now + int(self.lifetime_s)
        self._add(Notice(user_id=user_id, until=until, at=now))

    def heard(self, room: str) -> None:
        """Have this worker's sockets of `token:{jti}` or `user:{id}` verified anew."""
        self._rooms[room] = None
        self._heard.set()

    async def recheck_forever(self, loop: Loop) -> None:
        """Have sockets verified of whose tokens something was heard. Runs for ever."""
        while True:
            for room in list(self._rooms):
                del self._rooms[room]
                await self._recheck_sockets(room)
            loop.succeeded()
            await wait_until(self._heard, ROUND_S)

    async def tell_forever(self, loop: Loop) -> None:
        """Tell what is to be told. Runs for ever."""
        while True:
            try:
                await self._tell()
                loop.succeeded()
            except RedisUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            await wait_until(self._changed, ROUND_S)

    @property
    def status(self) -> dict[str, Any]:
        """Return how many notices Redis did not take yet."""
        return {"waiting": len(self._waiting)}

    def _add(self, notice: Notice) -> None:
        if self._redis is not None and len(self._waiting) < KEPT:
            self._waiting[notice] = None
        self._changed.set()

    async def _tell(self) -> None:
        if self._redis is None:
            return
        for notice in list(self._waiting):
            del self._waiting[notice]  # first: an account that changes meanwhile is told of again
            try:
                await self._tell_one(self._redis, notice)
            except BaseException:
                self._waiting[notice] = None
                raise

    async def _tell_one(self, redis: RedisClient, notice: Notice) -> None:
        await redis.pipeline([("PUBLISH", self._keys.task_commands, notice.message)])
        if (mark := notice.mark(self._keys)) is not None:
            await redis.pipeline([mark])
