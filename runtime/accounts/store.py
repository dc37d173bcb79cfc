"""Changes to accounts that tokens must notice: password, role, removal, sign-out everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runtime.storage.database import (
    Database,
    User,
    auth_changes,
    log_auth_change,
    revoked_tokens,
    token_stamps,
    users,
)

AT_ONCE = 1000


@dataclass(frozen=True)
class AuthChange:
    """One entry of the log: a revoked token's id, or the id of an account that changed."""

    number: int
    jti: str | None
    user_id: str | None


class Accounts:
    """Every change is in the log of its own transaction. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[User]:
        """Return every account, the oldest first, without password hashes."""
        rows = await self._database.read(lambda connection: connection.execute(_ALL).all())
        return [User(*tuple(row)) for row in rows]

    async def change(self, user_id: str, **values: str) -> bool:
        """Set `role`, `name` or `password_hash`; a new password voids every token of before.

        Returns False when there is no such account.
        """

        def change(connection: sa.Connection) -> bool:
            log_auth_change(connection, user_id=user_id)  # first: it holds the log's lock
            query = users.update().where(users.c.id == user_id).values(values)
            if not connection.execute(query).rowcount:
                return False
            if "password_hash" in values:
                _next_stamp(connection, user_id)
            return True

        return await self._database.write(change)

    async def revoke_tokens(self, user_id: str) -> bool:
        """Void all tokens that were issued to an account so far; False when there is none such."""

        def revoke(connection: sa.Connection) -> bool:
            log_auth_change(connection, user_id=user_id)
            if connection.scalar(sa.select(users.c.id).where(users.c.id == user_id)) is None:
                return False
            _next_stamp(connection, user_id)
            return True

        return await self._database.write(revoke)

    async def remove(self, user_id: str) -> bool:
        """Delete an account, and with it the validity of its tokens; False if it was not there."""

        def remove(connection: sa.Connection) -> bool:
            log_auth_change(connection, user_id=user_id)
            for table in (revoked_tokens, token_stamps):
                connection.execute(table.delete().where(table.c.user_id == user_id))
            query = users.delete().where(users.c.id == user_id)
            return bool(connection.execute(query).rowcount)

        return await self._database.write(remove)

    async def last_change(self) -> int:
        """Return the number of the newest entry of the log, 0 when it is empty."""
        newest = sa.select(sa.func.max(auth_changes.c.number))
        return await self._database.read(lambda connection: connection.scalar(newest) or 0)

    async def changes_after(self, number: int) -> list[AuthChange]:
        """Return the entries of the log that follow `number`, at most a thousand."""
        values: dict[str, Any] = {"number": number}
        rows = await self._database.read(lambda c: c.execute(_CHANGES_AFTER, values).all())
        return [AuthChange(*tuple(row)) for row in rows]


def _next_stamp(connection: sa.Connection, user_id: str) -> None:
    """Raise the account's stamp by one. Needs the log's lock, so that two cannot meet here."""
    now = int(time.time())
    mine = token_stamps.c.user_id == user_id
    raised = (
        token_stamps.update().where(mine).values(stamp=token_stamps.c.stamp + 1, revoked_at=now)
    )
    if not connection.execute(raised).rowcount:
        row = {"user_id": user_id, "stamp": 1, "revoked_at": now}
        connection.execute(token_stamps.insert().values(row))


_ALL = sa.select(users.c.id, users.c.email, users.c.name, users.c.role).order_by(users.c.created_at)
_CHANGES_AFTER = (
    sa.select(auth_changes.c.number, auth_changes.c.jti, auth_changes.c.user_id)
    .where(auth_changes.c.number > sa.bindparam("number"))
    .order_by(auth_changes.c.number)
    .limit(AT_ONCE)
)
