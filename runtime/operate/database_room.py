"""Whether the database server has room for the connections of all processes."""

from __future__ import annotations

import sqlalchemy as sa

from runtime.operate.findings import Finding
from runtime.storage.database import Database

LIMITS = ("max_connections", "superuser_reserved_connections", "reserved_connections")
SETTINGS = sa.text("SELECT name, setting FROM pg_settings WHERE name IN :names").bindparams(
    sa.bindparam("names", LIMITS, expanding=True)
)


async def database_room(database: Database, processes: int, pool: int) -> list[Finding]:
    """Return a finding when the processes' pools are more than the server admits."""
    limits = await database.read(_limits)
    if not limits:
        return []  # SQLite has no connections to count
    room = limits["max_connections"] - sum(limits.get(name, 0) for name in LIMITS[1:])
    need = processes * pool
    if need <= room:
        return []
    return [
        Finding("database-pool-exceeds", "error", "DATABASE_URL",
                f"{processes} processes may open {need} connections, and the server admits {room}",
                "under load requests fail with `too many clients already`",
                f"raise max_connections above {need + limits['max_connections'] - room}, or put a "
                "pooler in between",
                f"{processes} x {pool}; "
                + ", ".join(f"{name} {value}" for name, value in limits.items()))
    ]  # fmt: skip


def _limits(connection: sa.Connection) -> dict[str, int]:
    """Return the server's limits, none for SQLite."""
    if connection.dialect.name != "postgresql":
        return {}
    return {name: int(value) for name, value in connection.execute(SETTINGS)}
