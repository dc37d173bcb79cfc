"""The tables of the configuration, and their transactions. Each function runs in one of them.

`config` holds what was changed. Values of scope `lasting` outlive the deployment; those of scope
`passing` (ENABLE_PERSISTENT_CONFIG=false) are dropped by the first worker that starts while no
other one lives. `config_state` has one row: the version, which every change increments first, so
that writers pass one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runtime.storage.database import metadata

LASTING, PASSING = "lasting", "passing"
WORKER_LEASE_S = 15.0

config = sa.Table(
    "config",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("scope", sa.String(16), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # JSON
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
state = sa.Table(
    "config_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)
workers = sa.Table(
    "config_workers",
    metadata,
    sa.Column("instance", sa.String(255), primary_key=True),
    sa.Column("seen_at", sa.Float, nullable=False),
)


@sa.event.listens_for(state, "after_create")
def _first_version(_table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    connection.execute(state.insert().values(id=1, version=0))


@dataclass(frozen=True)
class Row:
    """One stored value: JSON text, the version that wrote it, and when (epoch seconds)."""

    value: str
    version: int
    updated_at: float


@dataclass(frozen=True)
class Stored:
    """All that is stored, of one instant or a little newer than its version says."""

    version: int
    rows: dict[str, Row]


def now_of(connection: sa.Connection) -> float:
    """Return the database's time in epoch seconds; SQLite's is this machine's."""
    if connection.dialect.name != "postgresql":
        return time.time()
    clock = sa.extract("epoch", sa.func.clock_timestamp())
    return float(connection.execute(sa.select(clock)).scalar_one())


def version_of(connection: sa.Connection) -> int:
    """Return the version of the last change."""
    return int(connection.execute(sa.select(state.c.version)).scalar_one())


def read(connection: sa.Connection, scope: str) -> Stored:
    """Return everything of a scope. The version is read first: it is never too new."""
    version = version_of(connection)
    columns = (config.c.key, config.c.value, config.c.version, config.c.updated_at)
    found = connection.execute(sa.select(*columns).where(config.c.scope == scope)).all()
    return Stored(version, {key: Row(*rest) for key, *rest in found})


def write(connection: sa.Connection, scope: str, values: Mapping[str, str]) -> None:
    """Store values (key → JSON text) under a new version."""
    version, now = _next_version(connection), now_of(connection)
    for key, value in values.items():
        _put(connection, key, scope, Row(value, version, now))


def join(
    connection: sa.Connection, instance: str, defaults: Mapping[str, str], *, reset: bool
) -> None:
    """Enter a worker that starts, and store the defaults that nobody stored yet.

    The first worker drops what does not outlive a deployment; with `reset`, everything.
    """
    version, now = _next_version(connection), now_of(connection)
    connection.execute(
        workers.delete().where(
            (workers.c.seen_at < now - WORKER_LEASE_S) | (workers.c.instance == instance)
        )
    )
    if not connection.scalar(sa.select(sa.func.count()).select_from(workers)):
        dropped = config.delete()
        connection.execute(dropped if reset else dropped.where(config.c.scope == PASSING))
    connection.execute(workers.insert().values(instance=instance, seen_at=now))
    known = set(connection.scalars(sa.select(config.c.key).where(config.c.scope == LASTING)))
    for key in defaults.keys() - known:
        _put(connection, key, LASTING, Row(defaults[key], version, now))


def renew(connection: sa.Connection, instance: str) -> None:
    """Say that a worker still lives."""
    now = now_of(connection)
    mine = workers.update().where(workers.c.instance == instance).values(seen_at=now)
    if connection.execute(mine).rowcount == 0:
        connection.execute(workers.insert().values(instance=instance, seen_at=now))


def leave(connection: sa.Connection, instance: str) -> None:
    """Take out a worker that ends."""
    connection.execute(workers.delete().where(workers.c.instance == instance))


def _next_version(connection: sa.Connection) -> int:
    """Increment the version; on PostgreSQL this holds off other writers until the commit."""
    connection.execute(state.update().values(version=state.c.version + 1))
    return version_of(connection)


def _put(connection: sa.Connection, key: str, scope: str, row: Row) -> None:
    where = (config.c.key == key) & (config.c.scope == scope)
    if connection.execute(config.update().where(where).values(row.__dict__)).rowcount == 0:
        connection.execute(config.insert().values(key=key, scope=scope, **row.__dict__))
