"""Whose socket is whose, verified again when it acts, at the price of a dictionary look-up."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from runtime.supervision import Loop

log = logging.getLogger(__name__)

VERIFY_WITHIN_S = 2.0  # a join is answered by then, whatever hangs, once its turn has come
FRESH_S = 5.0  # a verified token counts for so long; a revocation is pushed at once
REVERIFY_S = 30.0
AT_ONCE = 20


class SocketUser(Protocol):
    """The account of a socket."""

    @property
    def id(self) -> str:
        """Return the account's id."""

    @property
    def name(self) -> str:
        """Return the name to show."""

    @property
    def role(self) -> str:
        """Return admin, user or pending."""


class SocketClaims(Protocol):
    """The claims of a socket's token."""

    @property
    def jti(self) -> str:
        """Return the token's id."""


class SocketIdentity(Protocol):
    """Who a token is for (`runtime.accounts.tokens.Identity`)."""

    @property
    def user(self) -> SocketUser:
        """Return the account."""

    @property
    def claims(self) -> SocketClaims:
        """Return the token's claims."""


Authenticate = Callable[[str], Awaitable[SocketIdentity | None]]
Close = Callable[[str], Awaitable[None]]


class CannotVerify(Exception):
    """Nobody knows whether the token is valid; that is not a refusal."""


@dataclass
class _Known:
    token: str
    identity: SocketIdentity
    checked: float  # time.monotonic()


class Identities:
    """The verified sockets of this worker. `close(sid)` ends one whose token is void."""

    def __init__(self, authenticate: Authenticate, close: Close) -> None:
        self._authenticate = authenticate
        self._close = close
        self._known: dict[str, _Known] = {}
        self.unverifiable = 0

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, sid: object) -> bool:
        return sid in self._known

    async def verify(self, token: str) -> SocketIdentity | None:
        """Return who the token is for, None when it is void; raise CannotVerify within 2 s."""
        try:
            async with asyncio.timeout(VERIFY_WITHIN_S):
                return await self._authenticate(token)
        except Exception as error:  # the database, or whatever it is made of
            self.unverifiable += 1
            log.warning("token not verified: %s: %s", type(error).__name__, error)
            raise CannotVerify from error

    def add(self, sid: str, token: str, identity: SocketIdentity) -> None:
        """Note whose socket this is, from now on."""
        self._known[sid] = _Known(token, identity, time.monotonic())

    def remove(self, sid: str) -> None:
        """Forget a socket."""
        self._known.pop(sid, None)

    async def current(self, sid: str) -> SocketIdentity | None:
        """Return who acts; None when the socket has no valid token (any more).

        Push notices close sockets of revoked tokens at once, so an answer may be 5 s old. While
        nobody can verify, the last answer counts: an outage must not end sessions.
        """
        known = self._known.get(sid)
        if known is None:
            return None
        if time.monotonic() - known.checked > FRESH_S and not await self._check(sid, known):
            return None
        return known.identity

    async def _check(self, sid: str, known: _Known) -> bool:
        """Verify again; close the socket and return False when its token is void."""
        try:
            identity = await self.verify(known.token)
        except CannotVerify:
            return True
        if identity is not None:
            known.identity, known.checked = identity, time.monotonic()
            return True
        if self._known.get(sid) is known:
            await self._close(sid)
        return False

    async def reverify_forever(self, loop: Loop) -> None:
        """Verify idle sockets every 30 s, spread over that time. Runs for ever."""
        while True:
            batches = _batches(list(self._known))
            for sids in batches:
                await asyncio.gather(*map(self._recheck_idle, sids))
                await asyncio.sleep(REVERIFY_S / len(batches) * random.uniform(0.8, 1.0))
            loop.succeeded()
            if not batches:
                await asyncio.sleep(REVERIFY_S)

    async def recheck(self, sid: str) -> None:
        """Verify a socket's token now: it may be void."""
        if known := self._known.get(sid):
            await self._check(sid, known)

    async def _recheck_idle(self, sid: str) -> None:
        """Verify a socket's token unless that was done just now."""
        known = self._known.get(sid)
        if known and time.monotonic() - known.checked > FRESH_S:
            await self._check(sid, known)


def _batches(sids: list[str]) -> list[list[str]]:
    return [sids[i : i + AT_ONCE] for i in range(0, len(sids), AT_ONCE)]
