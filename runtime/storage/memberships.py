"""Channels, notes, and who may see or change them; chats can be shared in the same way."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from runtime.storage.database import Database, chats, metadata, users

Kind = Literal["channel", "note", "chat"]
Permission = Literal["read", "write"]

channels = sa.Table(
    "channels",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False, index=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
grants = sa.Table(
    "access_grants",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("resource_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(36), primary_key=True, index=True),
    sa.Column("permission", sa.String(8), nullable=False),  # read or write
)
reads = sa.Table(
    "last_reads",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("resource_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(36), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
TABLES: dict[str, sa.Table] = {"channel": channels, "note": notes, "chat": chats}


@dataclass(frozen=True)
class Resource:
    """A channel, note or chat."""

    id: str
    user_id: str
    title: str


@dataclass(frozen=True)
class Member:
    """An account that may see a resource."""

    id: str
    name: str
    permission: str


class Memberships:
    """Raises DatabaseUnavailable when the database does not answer; that is never a "no"."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, kind: Kind, owner: str, title: str) -> Resource:
        """Store a new channel or note."""
        made = Resource(str(uuid.uuid4()), owner, title)
        row = {**made.__dict__, "created_at": time.time()}
        await self._database.write(lambda c: c.execute(TABLES[kind].insert().values(row)))
        return made

    async def get(self, kind: Kind, identifier: str) -> Resource | None:
        """Return a resource."""
        table = TABLES[kind]
        query = sa.select(table.c.id, table.c.user_id, table.c.title).where(
            table.c.id == identifier
        )
        row = await self._database.read(lambda c: c.execute(query).first())
        return Resource(*tuple(row)) if row else None

    async def visible(self, kind: Kind, user: str, role: str) -> list[Resource]:
        """Return what an account may see, the oldest first; an admin sees every channel."""
        table = TABLES[kind]
        query = sa.select(table.c.id, table.c.user_id, table.c.title).order_by(table.c.created_at)
        if not (role == "admin" and kind == "channel"):
            granted = sa.select(grants.c.resource_id).where(
                grants.c.kind == kind, grants.c.user_id == user
            )
            query = query.where((table.c.user_id == user) | table.c.id.in_(granted))
        rows = await self._database.read(lambda c: c.execute(query).all())
        return [Resource(*tuple(row)) for row in rows]

    async def permission(
        self, kind: Kind, identifier: str, user: str, role: str
    ) -> Permission | None:
        """Return what an account may do with a resource; owners and admins may write."""
        found = await self.get(kind, identifier)
        if found is None:
            return None
        if found.user_id == user or role == "admin":
            return "write"
        query = sa.select(grants.c.permission).where(_grant(kind, identifier, user))
        row = await self._database.read(lambda c: c.execute(query).first())
        if row is None:
            return None
        return "write" if row[0] == "write" else "read"

    async def members(self, kind: Kind, identifier: str) -> list[Member]:
        """Return the accounts that may see a resource, its owner too, sorted by name."""
        table = TABLES[kind]
        owner = sa.select(users.c.id, users.c.name, sa.literal("write").label("permission")).where(
            users.c.id.in_(sa.select(table.c.user_id).where(table.c.id == identifier))
        )
        others = sa.select(users.c.id, users.c.name, grants.c.permission).where(
            users.c.id == grants.c.user_id,
            grants.c.kind == kind,
            grants.c.resource_id == identifier,
        )
        rows = await self._database.read(lambda c: c.execute(sa.union_all(owner, others)).all())
        found = {row[0]: Member(*tuple(row)) for row in reversed(rows)}
        return sorted(found.values(), key=lambda member: (member.name, member.id))

    async def strangers(self, accounts: list[str]) -> list[str]:
        """Return the ids among these that no account has."""
        query = sa.select(users.c.id).where(users.c.id.in_(accounts))
        rows = await self._database.read(lambda c: c.execute(query).all())
        known = {row[0] for row in rows}
        return [account for account in accounts if account not in known]

    async def grant(self, kind: Kind, identifier: str, given: dict[str, Permission]) -> None:
        """Let accounts see or change a resource, besides those that may already."""
        await self._store(kind, identifier, given, grants.c.user_id.in_(list(given)))

    async def set_grants(
        self, kind: Kind, identifier: str, given: dict[str, Permission]
    ) -> list[str]:
        """Let exactly these accounts see or change a resource; return who lost access."""
        return await self._store(kind, identifier, given, sa.true())

    async def _store(
        self, kind: Kind, identifier: str, given: dict[str, Permission], instead_of: Any
    ) -> list[str]:
        here = sa.and_(grants.c.kind == kind, grants.c.resource_id == identifier, instead_of)
        row = {"kind": kind, "resource_id": identifier}
        rows = [{**row, "user_id": u, "permission": p} for u, p in given.items()]

        def store(connection: sa.Connection) -> list[str]:
            before = connection.execute(sa.select(grants.c.user_id).where(here)).all()
            connection.execute(grants.delete().where(here))
            if rows:
                connection.execute(grants.insert(), rows)
            return [found[0] for found in before if found[0] not in given]

        return await self._database.write(store)

    async def withdraw(self, kind: Kind, identifier: str, accounts: list[str]) -> None:
        """Take accounts' access away."""
        here = (grants.c.kind == kind, grants.c.resource_id == identifier)
        query = grants.delete().where(*here, grants.c.user_id.in_(accounts))
        await self._database.write(lambda c: c.execute(query))

    async def note_read(self, kind: Kind, identifier: str, user: str) -> float:
        """Store that an account has read everything; return when (epoch seconds)."""
        row = {"kind": kind, "resource_id": identifier, "user_id": user}
        same = [reads.c[name] == value for name, value in row.items()]
        at = time.time()

        def store(connection: sa.Connection) -> None:
            connection.execute(reads.delete().where(*same))
            connection.execute(reads.insert().values({**row, "at": at}))

        await self._database.write(store)
        return at


def _grant(kind: str, identifier: str, user: str) -> Any:
    return sa.and_(
        grants.c.kind == kind, grants.c.resource_id == identifier, grants.c.user_id == user
    )
