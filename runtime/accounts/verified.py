"""Tokens that the database said were valid, remembered for as long as that can be relied on.

An answer counts for 0.3 s by itself. It counts longer while this worker follows the database's
log of changes: then a revocation is known here at most `FOLLOWED_S` after it was committed, with
Redis or without. Once the log cannot be read, answers are as short-lived as without it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from runtime.accounts.identity import Identity

ALONE_S = 0.3  # how long an answer of the database counts by itself
FOLLOWED_S = 0.6  # how old the last look at the log may be for answers to count on
LONGEST_S = 30.0  # after this the database is asked again in any case
REMEMBERED = 10_000
REVOKED_REMEMBERED = 100_000
NEVER = float("-inf")


@dataclass(frozen=True)
class _Entry:
    identity: Identity
    asked: float  # when the database was asked, not when it answered


class VerifiedTokens:
    """Answers by token. All times are of `time.monotonic()`."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._by_jti: dict[str, str] = {}
        self._by_user: dict[str, set[str]] = {}
        self._revoked: OrderedDict[str, None] = OrderedDict()
        self._changed: OrderedDict[str, float] = OrderedDict()  # accounts, and when we heard
        self._following_since = float("inf")
        self._followed_at = NEVER

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str) -> Identity | None:
        """Return whose token it is, if that is known and can be relied on now."""
        entry = self._entries.get(token)
        if entry is None:
            return None
        now = time.monotonic()
        alone = now - entry.asked <= ALONE_S
        if not (alone or self._followed(entry, now)):
            return None
        expires = entry.identity.claims.expires_at
        return entry.identity if expires is None or expires > time.time() else None

    def last_known(self, token: str) -> Identity | None:
        """Return whose token it was when somebody last knew; for a policy that accepts that."""
        entry = self._entries.get(token)
        return entry.identity if entry else None

    def put(self, token: str, identity: Identity, asked: float) -> None:
        """Remember an answer, unless the account changed since the question."""
        user = identity.id
        if self._changed.get(user, NEVER) >= asked or self.is_revoked(identity.claims.jti):
            return
        self._entries[token] = _Entry(identity, asked)
        self._entries.move_to_end(token)
        self._by_jti[identity.claims.jti] = token
        self._by_user.setdefault(user, set()).add(token)
        if len(self._entries) > REMEMBERED:
            self._drop(next(iter(self._entries)))

    def is_revoked(self, jti: str) -> bool:
        """Tell whether this worker knows that the token was revoked."""
        return jti in self._revoked

    def revoked(self, jti: str) -> None:
        """Refuse the token from now on."""
        self._drop(self._by_jti.get(jti, ""))
        self._revoked[jti] = None
        if len(self._revoked) > REVOKED_REMEMBERED:  # older ones are in the database
            self._revoked.popitem(last=False)

    def changed(self, user_id: str) -> None:
        """Forget every answer about an account."""
        for token in list(self._by_user.get(user_id, ())):
            self._drop(token)
        self._changed[user_id] = time.monotonic()
        self._changed.move_to_end(user_id)
        if len(self._changed) > REMEMBERED:
            self._changed.popitem(last=False)

    def follow(self) -> None:
        """Note that the log is followed: changes from now on will be heard of."""
        self._following_since = time.monotonic()

    def followed(self, began: float) -> None:
        """Note that everything committed before `began` has been heard of."""
        self._followed_at = began

    def _followed(self, entry: _Entry, now: float) -> bool:
        return (
            entry.asked > self._following_since
            and now - self._followed_at <= FOLLOWED_S
            and now - entry.asked <= LONGEST_S
        )

    def _drop(self, token: str) -> None:
        entry = self._entries.pop(token, None)
        if entry is None:
            return
        self._by_jti.pop(entry.identity.claims.jti, None)
        tokens = self._by_user[entry.identity.id]
        tokens.discard(token)
        if not tokens:
            del self._by_user[entry.identity.id]
