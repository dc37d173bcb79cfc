"""SQLAlchemy engines of both databases, with a deadline on everything that may hang."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from psycopg.types.string import StrDumperUnknown
from sqlalchemy.exc import ArgumentError

from runtime.settings import SettingsError

BUSY_TIMEOUT_S = 5.0
LOCKED_PAUSE_S = 0.005
CONNECT_S = 3  # psycopg takes whole seconds, and at least 2
STATEMENT_S = 5.0
READERS = 3
WRITES = "runtime_writes"
KINDS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
FORM = "write sqlite:///PATH or postgresql://USER:PASSWORD@HOST:5432/DATABASE"


def driver_url(url: str) -> str:
    """Return the URL with the driver of its database; raise SettingsError for any other."""
    scheme, found, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if not found or kind not in KINDS:
        raise SettingsError(f"DATABASE_URL: unknown database `{kind[:20]}`; {FORM}")
    try:
        return sa.make_url(f"{KINDS[kind]}://{rest}").render_as_string(hide_password=False)
    except (ArgumentError, ValueError):
        raise SettingsError(f"DATABASE_URL cannot be read; {FORM}") from None


def make_engine(url: str) -> sa.Engine:
    """Return an engine for the threads of one worker."""
    return _sqlite(url) if url.startswith("sqlite") else _postgresql(url)


def _postgresql(url: str) -> sa.Engine:
    arguments = {
        "connect_timeout": CONNECT_S,
        "application_name": "runtime",
        "tcp_user_timeout": int(STATEMENT_S * 1000),  # a dead network is noticed
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    engine = sa.create_engine(
        url,
        pool_size=READERS + 1,
        max_overflow=0,
        pool_timeout=STATEMENT_S,
        pool_pre_ping=True,  # a server that was restarted is not met by the first request
        connect_args=arguments,
    )
    sa.event.listen(engine, "connect", _prepare_postgresql)
    return engine


def break_off(connections: Iterable[Any]) -> None:
    """End connections of psycopg under the threads that wait for an answer on them.

    Each of those gets an error at once. Nothing else reaches a thread that waits for a server
    which hangs: a paused server's kernel still acknowledges what it is sent.
    """
    for connection in list(connections):
        with contextlib.suppress(Exception), _socket_of(connection) as line:  # closed already
            line.shutdown(socket.SHUT_RDWR)


def _socket_of(connection: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


class TextDumper(StrDumperUnknown):
    """Texts as PostgreSQL can hold them: U+FFFD in the place of U+0000.

    Models send it, and editors. Refused, an answer would be tried again for ever, and the texts
    that are saved along with it would be lost as well. SQLite takes it.
    """

    def dump(self, obj: str) -> Any:
        """Return the bytes of a text."""
        return super().dump(obj.replace("\0", "\ufffd"))


def _prepare_postgresql(connection: Any, record: Any) -> None:
    connection.adapters.register_dumper(str, TextDumper)
    _bound_statements(connection, record)


def _bound_statements(connection: Any, _record: Any) -> None:
    """Let the server give up what takes too long. No start-up option: poolers refuse those."""
    milliseconds = int(STATEMENT_S * 1000)
    connection.autocommit = True
    connection.execute(f"SET statement_timeout = {milliseconds}")
    connection.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
    connection.autocommit = False


def _sqlite(url: str) -> sa.Engine:
    arguments = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    engine = sa.create_engine(
        url, poolclass=sa.QueuePool, pool_size=READERS + 1, max_overflow=0, connect_args=arguments
    )
    sa.event.listen(engine, "connect", prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def prepare_sqlite(connection: Any, _record: Any) -> None:
    """Leave transactions to us; readers never wait for the writer (WAL)."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _use_wal(cursor: Any) -> None:
    """Switch to WAL; while another worker does it, SQLite refuses at once, whatever the timeout."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(LOCKED_PAUSE_S)  # nothing tells when the other is done


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once when we shall write: a late upgrade could not wait for it."""
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
