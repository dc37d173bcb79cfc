"""Session tokens: issued, verified and revoked so that every worker agrees.

A revocation is in the database before the sign-out is answered; the notice that then goes to
all workers only makes it faster. Without Redis a revoked token is refused everywhere as soon as
the short memory of a positive answer is over; a valid one stays valid.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from runtime.database import Database, User

ALGORITHM = "HS256"
SESSION = "session"
REMEMBER_VALID_S = 0.3  # how long a positive answer of the database counts
REMEMBERED = 10_000
REVOKED_REMEMBERED = 100_000


@dataclass(frozen=True)
class Claims:
    """What a token with a good signature says. `expires_at` is in epoch seconds."""

    user_id: str
    jti: str
    issued_at: int
    expires_at: int | None


@dataclass(frozen=True)
class Identity:
    """Who sent a request, and with which token."""

    user: User
    claims: Claims

    @property
    def id(self) -> str:
        """Return the account's id."""
        return self.user.id

    @property
    def is_admin(self) -> bool:
        """Tell whether the account may do everything."""
        return self.user.role == "admin"


class Tokens:
    """`verify` raises DatabaseUnavailable when it cannot know; that is never a "no"."""

    def __init__(
        self,
        database: Database,
        secret: str,
        lifetime_s: float | None,
        on_revoked: Callable[[str, int | None], None] = lambda _jti, _expires_at: None,
    ) -> None:
        self._database = database
        self._secret = secret
        self._lifetime = lifetime_s
        self._on_revoked = on_revoked
        self._revoked: OrderedDict[str, None] = OrderedDict()
        self._valid: OrderedDict[str, tuple[float, Identity]] = OrderedDict()

    def issue(self, user_id: str) -> tuple[str, int | None]:
        """Return a new token and when it expires (epoch seconds; None: never)."""
        now = int(time.time())
        expires = None if self._lifetime is None else now + int(self._lifetime)
        claims: dict[str, Any] = {
            "id": user_id,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "typ": SESSION,
        }
        if expires is not None:
            claims["exp"] = expires
        return jwt.encode(claims, self._secret, ALGORITHM), expires

    def decode(self, token: str) -> Claims | None:
        """Return the claims of a token that we signed and that has not expired."""
        options: Any = {"require": ["jti", "iat"]}
        try:
            claims = jwt.decode(token, self._secret, [ALGORITHM], options=options)
            if claims.get("typ", SESSION) != SESSION:
                return None
            return Claims(str(claims["id"]), claims["jti"], claims["iat"], claims.get("exp"))
        except (jwt.InvalidTokenError, KeyError):
            return None

    async def verify(self, token: str) -> Identity | None:
        """Return who the token belongs to, or None when it is not (or no longer) valid."""
        claims = self.decode(token)
        if claims is None or self.is_known_revoked(claims.jti):
            return None
        if (remembered := self._remembered(claims.jti)) is not None:
            return remembered
        asked = time.monotonic()
        user = await self._database.user_if_not_revoked(claims.user_id, claims.jti)
        if user is None or user.role == "pending" or self.is_known_revoked(claims.jti):
            return None
        identity = Identity(user, claims)
        self._remember(identity, asked)
        return identity

    async def revoke(self, claims: Claims) -> None:
        """Revoke a token for good; returns once that is in the database."""
        await self._store_revocation(claims)
        self.note_revoked(claims.jti)
        self._on_revoked(claims.jti, claims.expires_at)

    def note_revoked(self, jti: str) -> None:
        """Refuse the token from now on: another worker says it was revoked."""
        self._valid.pop(jti, None)
        self._revoked[jti] = None
        if len(self._revoked) > REVOKED_REMEMBERED:  # older ones are in the database
            self._revoked.popitem(last=False)

    def is_known_revoked(self, jti: str) -> bool:
        """Tell whether this worker was told that the token is revoked."""
        return jti in self._revoked

    async def _store_revocation(self, claims: Claims) -> None:
        await self._database.revoke(claims.jti, claims.user_id, claims.expires_at)

    def _remembered(self, jti: str) -> Identity | None:
        entry = self._valid.get(jti)
        if entry is None or time.monotonic() - entry[0] > REMEMBER_VALID_S:
            return None
        return entry[1]

    def _remember(self, identity: Identity, asked: float) -> None:
        """Remember from when the database was asked, not from when it answered."""
        self._valid[identity.claims.jti] = (asked, identity)
        self._valid.move_to_end(identity.claims.jti)
        if len(self._valid) > REMEMBERED:
            self._valid.popitem(last=False)
