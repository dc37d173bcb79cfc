"""Sessions: loaded only by routes that need them, and bound to one sign-in.

A session belongs to the token that made it. So it ends with the token, whatever Redis forgets or
remembers, nobody can plant one in another's browser, and every sign-in begins a fresh one.

With Redis the data is there and the browser holds a signed id (`SharedSessions`); without, the
browser holds the signed data (`CookieSessions`).

The middleware of starsessions is not used: it writes when the answer begins, over what another
worker wrote meanwhile, and an error of Redis at that point can only become a 500. Its ids and its
cookie store are.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from itsdangerous import BadSignature, Signer
from starsessions.session import generate_session_id
from starsessions.stores.cookie import CookieStore

from runtime.accounts.identity import Identity
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys

COOKIE = "owui-session"
DEADLINE_S = 1.0
TRIES = 5
LONGEST_COOKIE = 4096  # bytes; browsers drop longer ones
LARGEST = 1 << 20  # bytes

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


class SessionEnded(Exception):
    """The session was removed while it was being changed."""


class SessionTooLarge(Exception):
    """The data does not fit; the text says how much would."""


@dataclass
class Session:
    """One session's data. `cookie` is what the browser gets, for `max_age` seconds.

    `version` is that of the stored value, empty for a new session.
    """

    id: str
    data: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    version: str = ""
    cookie: str = ""
    max_age: int = 0


class Sessions(Protocol):
    """Reads and changes sessions. `cookie` is what the browser sent, and may be anything."""

    async def load(self, cookie: str | None, who: Identity) -> Session | None:
        """Return the session; None when there is none, or it is of another sign-in."""

    async def merge(self, cookie: str | None, who: Identity, changes: dict[str, Any]) -> Session:
        """Set keys of the session, making one when there is none.

        Raises SessionConflict, SessionEnded or SessionTooLarge.
        """

    async def remove(self, cookie: str | None) -> None:
        """End a session."""


class Lifetime:
    """How long sessions live: from their last use when `rolling`, else from their first."""

    def __init__(self, seconds: int, rolling: bool) -> None:
        self.seconds = seconds
        self.rolling = rolling

    def left(self, created: float) -> int:
        """Return how many seconds a session has; none or less when it is over."""
        return self.seconds if self.rolling else int(created + self.seconds - time.time())


class SharedSessions:
    """Sessions in Redis, the same for all workers; written by compare-and-set.

    A write that arrives late changes nothing, two workers cannot overwrite each other, and a
    removed session does not come back. Raises RedisUnavailable within about a second.
    """

    def __init__(self, redis: RedisClient, keys: Keys, secret: str, lifetime: Lifetime) -> None:
        self._redis = redis
        self._keys = keys
        self._signer = Signer(secret, salt=COOKIE, digest_method=hashlib.sha256)
        self._lifetime = lifetime

    async def load(self, cookie: str | None, who: Identity) -> Session | None:
        """Return the session; None when there is none, or it is of another sign-in."""
        identifier = self._identifier(cookie)
        value = await self._read(identifier) if identifier else None
        if value is None:
            return None
        version, _, text = value.partition(":")
        body = orjson.loads(text)
        left = self._lifetime.left(body["created"])
        if body["token"] != who.claims.jti or left <= 0:
            return None
        return Session(identifier, body["data"], body["created"], version, cookie or "", left)

    async def merge(self, cookie: str | None, who: Identity, changes: dict[str, Any]) -> Session:
        """Set keys of the session, making one when there is none.

        An id that we did not make is never taken over from the client.
        """
        existed = False
        for attempt in range(TRIES):
            session = await self.load(cookie, who)
            if session is None and existed:
                raise SessionEnded
            existed = session is not None
            session = session or self._new()
            session.data.update(changes)
            if await self._write(session, who):
                return session
            await asyncio.sleep(0.005 * attempt)
        raise SessionConflict

    async def remove(self, cookie: str | None) -> None:
        """End a session."""
        if identifier := self._identifier(cookie):
            key = self._keys.session(identifier)
            await self._redis.run(lambda r: r.delete(key), idempotent=True, deadline=DEADLINE_S)

    def _identifier(self, cookie: str | None) -> str:
        """Return the id that the cookie holds, empty unless we signed it."""
        try:
            return self._signer.unsign(cookie or "").decode()
        except BadSignature:
            return ""

    def _new(self) -> Session:
        identifier = generate_session_id()
        return Session(identifier, cookie=self._signer.sign(identifier).decode())

    async def _read(self, identifier: str) -> str | None:
        """Return the stored value, and prolong its life if it rolls."""
        key, life = self._keys.session(identifier), self._lifetime
        value = await self._redis.run(
            lambda r: r.getex(key, ex=life.seconds) if life.rolling else r.get(key),
            idempotent=True,
            deadline=DEADLINE_S,
        )
        return value.decode() if isinstance(value, bytes) else value

    async def _write(self, session: Session, who: Identity) -> bool:
        """Store it unless the stored version is another one."""
        session.max_age = self._lifetime.left(session.created)
        version = generate_session_id()
        value = f"{version}:".encode() + _fitting(_body(session, who), LARGEST)
        key, based_on = self._keys.session(session.id), session.version
        stored = await self._redis.run(
            lambda r: r.eval(WRITE, 1, key, based_on, value, max(1, session.max_age)),
            idempotent=False,
            deadline=DEADLINE_S,
        )
        return bool(stored)


class CookieSessions:
    """Sessions in the browser's cookie, signed by us; nothing of them is kept on a server.

    Of two requests at once the answer that the browser hears last wins. A removed session could be
    sent again, but its token is revoked, and no other token opens it.
    """

    def __init__(self, secret: str, lifetime: Lifetime) -> None:
        self._store = CookieStore(f"{COOKIE}:{secret}")
        self._lifetime = lifetime

    async def load(self, cookie: str | None, who: Identity) -> Session | None:
        """Return the session; None when there is none, or it is of another sign-in."""
        text = await self._store.read(cookie or "", self._lifetime.seconds)
        if not text:
            return None
        body = orjson.loads(text)
        left = self._lifetime.left(body["created"])
        if body["token"] != who.claims.jti or left <= 0:
            return None
        session = Session("", body["data"], body["created"], cookie=cookie or "", max_age=left)
        return await self._sealed(session, who) if self._lifetime.rolling else session

    async def merge(self, cookie: str | None, who: Identity, changes: dict[str, Any]) -> Session:
        """Set keys of the session, making one when there is none."""
        session = await self.load(cookie, who) or Session("")
        session.data.update(changes)
        return await self._sealed(session, who)

    async def remove(self, cookie: str | None) -> None:
        """Do nothing: the answer deletes the cookie."""

    async def _sealed(self, session: Session, who: Identity) -> Session:
        """Return the session with its new cookie; raise SessionTooLarge."""
        left = session.max_age = self._lifetime.left(session.created)
        body = _fitting(_body(session, who), LONGEST_COOKIE)
        session.cookie = await self._store.write("", body, self._lifetime.seconds, left)
        if len(session.cookie) + len(COOKIE) > LONGEST_COOKIE:
            raise SessionTooLarge(_too_large(len(session.cookie), LONGEST_COOKIE))
        return session


def _body(session: Session, who: Identity) -> bytes:
    body = {"token": who.claims.jti, "created": session.created, "data": session.data}
    return orjson.dumps(body)


def _fitting(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise SessionTooLarge(_too_large(len(body), most))
    return body


def _too_large(size: int, most: int) -> str:
    return f"The session would have {size} bytes; {most} fit."
