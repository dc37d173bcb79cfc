"""What a token says, and who it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.storage.database import User


@dataclass(frozen=True)
class Claims:
    """What a token with a good signature says. `expires_at` is in epoch seconds.

    `stamp` is the account's at sign-in; a token of an older stamp is void.
    """

    user_id: str
    jti: str
    issued_at: int
    expires_at: int | None
    stamp: int = 0


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
