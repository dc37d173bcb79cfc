"""Session tokens: issued, verified and revoked so that every worker agrees.

The database is the truth: a revocation is in it before the sign-out is answered, and every worker
follows its log of changes. Redis's notices only make the news travel faster. Which answers are
remembered, and for how long, is in `verified_tokens`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt

from runtime.accounts.identity import Claims, Identity
from runtime.accounts.store import Accounts
from runtime.accounts.verified import VerifiedTokens
from runtime.storage.database import Database, DatabaseUnavailable
from runtime.supervision import Loop

__all__ = ["Claims", "Identity", "Policy", "Tokens", "Told"]

ALGORITHM = "HS256"
SESSION = "session"
FOLLOW_EVERY_S = 0.2

Policy = Literal["closed", "open"]


@dataclass(frozen=True)
class Told:
    """Whom to tell of a revocation: `token` and `user` all workers, `heard` this one's sockets.

    They do nothing by default.
    """

    token: Callable[[str, int | None], None] = field(default=lambda _jti, _expires_at: None)
    user: Callable[[str], None] = field(default=lambda _user_id: None)
    heard: Callable[[str], None] = field(default=lambda _room: None)


class Tokens:
    """`verify` raises DatabaseUnavailable when it cannot know; that is never a "no".

    With the policy `open` it then accepts a token that this worker knew as valid before and was
    never told to be revoked; `accepted_unverified` counts those answers.
    """

    def __init__(
        self,
        database: Database,
        secret: str,
        lifetime_s: float | None,
        told: Told | None = None,
        policy: Policy = "closed",
    ) -> None:
        self._database = database
        self._accounts = Accounts(database)
        self._secret = secret
        self.lifetime_s = lifetime_s  # of tokens issued from now on
        self._told = told or Told()
        self._verified = VerifiedTokens()
        self.policy = policy
        self.accepted_unverified = self.refused_unverified = 0

    # what a token says

    def issue(self, user_id: str, stamp: int = 0) -> tuple[str, int | None]:
        """Return a new token and when it expires (epoch seconds; None: never)."""
        now = int(time.time())
        expires = None if self.lifetime_s is None else now + int(self.lifetime_s)
        claims: dict[str, Any] = {
            "id": user_id,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "typ": SESSION,
            "session_stamp": stamp,
        }
        if expires is not None:
            claims["exp"] = expires
        return jwt.encode(claims, self._secret, ALGORITHM), expires

    def decode(self, token: str) -> Claims | None:
        """Return the claims of a token that we signed and that has not expired.

        One that was issued in the future is of a clock that is ahead of ours, or was: it counts.
        """
        options: Any = {"require": ["jti", "iat"], "verify_iat": False}
        try:
            claims = jwt.decode(token, self._secret, [ALGORITHM], options=options)
            if claims.get("typ", SESSION) != SESSION:
                return None
            found = (str(claims["id"]), str(claims["jti"]), int(claims["iat"]), claims.get("exp"))
            return Claims(*found, stamp=claims.get("session_stamp", 0))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
            return None

    # whether it is valid

    async def verify(self, token: str) -> Identity | None:
        """Return who the token belongs to, or None when it is not (or no longer) valid."""
        if (known := self._verified.get(token)) is not None:
            return known
        claims = self.decode(token)
        if claims is None or self.is_known_revoked(claims.jti):
            return None
        try:
            return await self._ask(token, claims)
        except DatabaseUnavailable:
            if (last := self._accepted_without_knowing(token)) is not None:
                return last
            raise

    async def _ask(self, token: str, claims: Claims) -> Identity | None:
        asked = time.monotonic()
        user = await self._database.user_if_not_revoked(claims.user_id, claims.jti)
        if user is None or user.role == "pending" or user.stamp != claims.stamp:
            return None
        if self.is_known_revoked(claims.jti):  # told while we asked
            return None
        identity = Identity(user, claims)
        self._verified.put(token, identity, asked)
        return identity

    def _accepted_without_knowing(self, token: str) -> Identity | None:
        """Return whose token it was, if the policy accepts that; it is a good and known one."""
        last = self._verified.last_known(token) if self.policy == "open" else None
        if last is None:
            self.refused_unverified += 1
        else:
            self.accepted_unverified += 1
        return last

    # what ends it

    async def revoke(self, claims: Claims) -> None:
        """Revoke a token for good; returns once that is in the database."""
        await self._database.revoke(claims.jti, claims.user_id, claims.expires_at)
        self.note_revoked(claims.jti)
        self._told.token(claims.jti, claims.expires_at)

    async def revoke_user(self, user_id: str) -> bool:
        """Revoke all tokens of an account; returns once that is in the database."""
        found = await self._accounts.revoke_tokens(user_id)
        self.user_changed(user_id)
        return found

    def user_changed(self, user_id: str) -> None:
        """Have everybody look anew at an account that was changed in the database."""
        self.note_user(user_id)
        self._told.user(user_id)

    def note_revoked(self, jti: str) -> None:
        """Refuse the token from now on: another worker says it was revoked."""
        if not self.is_known_revoked(jti):
            self._verified.revoked(jti)
            self._told.heard(f"token:{jti}")

    def note_user(self, user_id: str) -> None:
        """Ask the database anew about an account: another worker says it changed."""
        self._verified.changed(user_id)
        self._told.heard(f"user:{user_id}")

    def is_known_revoked(self, jti: str) -> bool:
        """Tell whether this worker was told that the token is revoked."""
        return self._verified.is_revoked(jti)

    # the log of changes

    async def follow_forever(self, loop: Loop) -> None:
        """Read the database's log of changes, five times a second. Runs for ever."""
        last = await self._accounts.last_change()
        self._verified.follow()
        while True:
            with contextlib.suppress(
                DatabaseUnavailable
            ):  # what is remembered soon ceases to count
                last = await self._catch_up(last)
                loop.succeeded()
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def _catch_up(self, last: int) -> int:
        """Note all entries after `last`; return the newest number."""
        began = time.monotonic()
        while changes := await self._accounts.changes_after(last):
            for change in changes:
                self._note(change.jti, change.user_id)
            last = changes[-1].number
        self._verified.followed(began)
        return last

    def _note(self, jti: str | None, user_id: str | None) -> None:
        if jti is not None:
            self.note_revoked(jti)
        if user_id is not None:
            self.note_user(user_id)

    @property
    def status(self) -> dict[str, Any]:
        """Return the policy, and how often it had to decide."""
        return {
            "policy": self.policy,
            "remembered": len(self._verified),
            "accepted_unverified": self.accepted_unverified,
            "refused_unverified": self.refused_unverified,
        }
