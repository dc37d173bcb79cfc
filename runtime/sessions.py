"""Server-side sessions: loaded only by routes that need them, written by compare-and-set.

Ids and the store's base class are those of starsessions. Its middleware saves when the answer
starts, over whatever another worker wrote meanwhile; here each write states the version it is
based on. So a write that arrives late (a held connection) changes nothing, two workers cannot
overwrite each other, and a removed session does not come back.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from starsessions.session import generate_session_id

from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys

COOKIE = "owui-session"
LIFETIME_S = 30 * 24 * 3600
DEADLINE_S = 1.0
TRIES = 5
IN_MEMORY = 10_000
_ID_LENGTH = 32  # hexadecimal digits

# KEYS[1] session; ARGV version it is based on, new value, seconds to live.
# The value begins with its version and a colon.
WRITE = """
local now = redis.call('GET', KEYS[1])
local version = now and string.match(now, '^[^:]*') or ''
if version ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class SessionConflict(Exception):
    """Others kept changing the session at the same time."""


@dataclass
class Session:
    """One session's data. `version` is that of the stored value, empty for a new session."""

    id: str
    data: dict[str, Any] = field(default_factory=dict)
    user_id: str = ""
    version: str = ""


class Store(Protocol):
    """Where sessions live. Values are opaque bytes that begin with `version:`."""

    async def read(self, identifier: str) -> bytes | None:
        """Return the value and prolong its life."""

    async def write(self, identifier: str, based_on: str, value: bytes) -> bool:
        """Store the value unless the stored version is another one."""

    async def remove(self, identifier: str) -> None:
        """Remove the session."""


class RedisStore:
    """Sessions in Redis. Raises RedisUnavailable within about a second."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def read(self, identifier: str) -> bytes | None:
        """Return the value and prolong its life."""
        key = self._keys.session(identifier)
        value = await self._redis.run(
            lambda r: r.getex(key, ex=LIFETIME_S), idempotent=True, deadline=DEADLINE_S
        )
        return value.encode() if isinstance(value, str) else value

    async def write(self, identifier: str, based_on: str, value: bytes) -> bool:
        """Store the value unless the stored version is another one."""
        key = self._keys.session(identifier)
        stored = await self._redis.run(
            lambda r: r.eval(WRITE, 1, key, based_on, value, LIFETIME_S),
            idempotent=False,
            deadline=DEADLINE_S,
        )
        return bool(stored)

    async def remove(self, identifier: str) -> None:
        """Remove the session."""
        key = self._keys.session(identifier)
        await self._redis.run(lambda r: r.delete(key), idempotent=True, deadline=DEADLINE_S)


class MemoryStore:
    """Sessions of a single worker without Redis; the longest unused are dropped."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, bytes] = OrderedDict()

    async def read(self, identifier: str) -> bytes | None:
        """Return the value and prolong its life."""
        value = self._values.get(identifier)
        if value is not None:
            self._values.move_to_end(identifier)
        return value

    async def write(self, identifier: str, based_on: str, value: bytes) -> bool:
        """Store the value unless the stored version is another one."""
        if _version(self._values.get(identifier, b"")) != based_on:
            return False
        self._values[identifier] = value
        if len(self._values) > IN_MEMORY:
            self._values.popitem(last=False)
        return True

    async def remove(self, identifier: str) -> None:
        """Remove the session."""
        self._values.pop(identifier, None)


class Sessions:
    """Reads and changes sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, identifier: str | None, user_id: str) -> Session | None:
        """Return the user's session; None when the id is unknown, or somebody else's."""
        if not identifier or len(identifier) != _ID_LENGTH or not identifier.isalnum():
            return None
        value = await self._store.read(identifier)
        if value is None:
            return None
        body = orjson.loads(value.partition(b":")[2])
        if body["user_id"] != user_id:
            return None
        return Session(identifier, body["data"], user_id, _version(value))

    async def merge(self, identifier: str | None, user_id: str, changes: dict[str, Any]) -> Session:
        """Set keys of the session, making one when there is none; raise SessionConflict.

        An id that we do not know is never taken over from the client.
        """
        for attempt in range(TRIES):
            session = await self.load(identifier, user_id)
            session = session or Session(generate_session_id(), user_id=user_id)
            session.data.update(changes)
            if await self._save(session):
                return session
            await asyncio.sleep(0.005 * attempt)
        raise SessionConflict(identifier)

    async def remove(self, identifier: str | None) -> None:
        """End a session."""
        if identifier:
            await self._store.remove(identifier)

    async def _save(self, session: Session) -> bool:
        body = {"user_id": session.user_id, "data": session.data, "saved_at": time.time()}
        version = generate_session_id()
        value = version.encode() + b":" + orjson.dumps(body)
        stored = await self._store.write(session.id, session.version, value)
        if stored:
            session.version = version
        return stored


def _version(value: bytes) -> str:
    return value.partition(b":")[0].decode()
