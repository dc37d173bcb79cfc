"""The durable truth: accounts, chats, messages and revoked tokens, in SQLite or PostgreSQL.

Several workers share one database. Every call is asynchronous: it runs in a thread, never on the
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from runtime.storage.engine import (
    READERS,
    STATEMENT_S,
    WRITES,
    break_off,
    driver_url,
    make_engine,
)
from runtime.storage.lanes import Call, DatabaseUnavailable, DatabaseUncertain, Lane, Patience

PATIENCE = {
    "postgresql": Patience(answer_s=STATEMENT_S + 1, held_s=2.0),
    "sqlite": Patience(answer_s=15.0, held_s=15.0),  # it waits for its lock, and cannot hang
}
CLOSE_S = 2.0  # for what is being written; then connections of a hung server are broken off
SCHEMA_LOCK = 7_305_120_011  # any number that nothing else in a PostgreSQL database uses
CHANGES_LOCK = 7_305_120_012
CLOCKS_DIFFER_S = 24 * 3600.0  # clocks of workers, or one that was set, may differ by this

T = TypeVar("T")

__all__ = ["Database", "DatabaseUnavailable", "DatabaseUncertain", "EmailTaken"]

metadata = sa.MetaData()
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("email", sa.String(320), nullable=False, unique=True),  # lower case
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),  # admin, user or pending
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
chats = sa.Table(
    "chats",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False, index=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("chat_id", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("task_id", sa.String(36), nullable=False, unique=True),
    sa.Column("user_id", sa.String(36), nullable=False),
    sa.Column("content", sa.Text, nullable=False, default=""),
    # running, done, cancelled, error or interrupted (its worker died)
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("owner", sa.String(255), nullable=False, server_default=""),  # a worker process
    sa.Column("sequence", sa.Integer, nullable=False, server_default="0"),  # pieces in `content`
    sa.Column("created_at", sa.Float, nullable=False),
)
revoked_tokens = sa.Table(
    "revoked_tokens",
    metadata,
    sa.Column("jti", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True, index=True),
)
token_stamps = sa.Table(  # an account whose tokens were never all revoked has no row: stamp 0
    "token_stamps",
    metadata,
    sa.Column("user_id", sa.String(36), primary_key=True),
    sa.Column("stamp", sa.Integer, nullable=False),
    sa.Column("revoked_at", sa.BigInteger, nullable=False),
)
auth_changes = sa.Table(  # a log: each worker reads on from the last number that it knows
    "auth_changes",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("jti", sa.String(36), nullable=True),
    sa.Column("user_id", sa.String(36), nullable=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sqlite_autoincrement=True,  # else numbers would begin again after old rows were deleted
)


class EmailTaken(Exception):
    """An account with this e-mail address exists."""


@dataclass(frozen=True)
class User:
    """One account. `role` is admin, user or pending; a token must carry the account's `stamp`."""

    id: str
    email: str
    name: str
    role: str
    password_hash: str = ""
    stamp: int = 0


@dataclass(frozen=True)
class Chat:
    """One chat, without its messages."""

    id: str
    user_id: str
    title: str
    created_at: float


class Database:
    """Transactions, and the queries of accounts, tokens and chats.

    Raises DatabaseUnavailable when the database does not answer, and then nothing was done;
    DatabaseUncertain, which is one too, when nobody knows whether a commit took place.

    A transaction is one function that runs in one thread from begin to commit: SQLite has one
    write lock for all workers, and held across turns of a busy event loop it would be held long.
    One thread writes, so that a wait for that lock never keeps a reader waiting.
    """

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self._engine = make_engine(driver_url(url))
        self._open: WeakSet[Any] = WeakSet()  # the driver's connections, broken ones too
        sa.event.listen(self._engine, "connect", lambda raw, _: self._note_open(raw))
        patience = patience or PATIENCE[self._engine.dialect.name]
        self.on_write_wait: Callable[[float], None] = lambda _: None  # seconds; from any thread
        self._readers = Lane(READERS, "database-reader", patience)
        self._writer = Lane(1, "database-writer", patience)

    @property
    def engine(self) -> sa.Engine:
        """The engine, to be instrumented."""
        return self._engine

    async def open(self) -> None:
        """Create missing tables; safe when several workers do it at once."""

        def create(connection: sa.Connection) -> None:
            _lock_schema(connection)
            metadata.create_all(connection)
            _add_missing_columns(connection)

        await self.write(create)

    async def close(self) -> None:
        """Close every connection; what is being written is finished first, unless it hangs."""
        lanes = (self._writer, self._readers)
        finishing = [asyncio.create_task(asyncio.to_thread(lane.finish)) for lane in lanes]
        _, hanging = await asyncio.wait(finishing, timeout=CLOSE_S)
        if hanging:
            for lane in lanes:
                lane.cut_short()
            break_off(self._open)
            await asyncio.wait(hanging)
        self._engine.dispose()

    def _note_open(self, raw: Any) -> None:
        if self._engine.dialect.name == "postgresql":
            self._open.add(raw)

    async def ping(self) -> None:
        """Return when the database answers."""
        await self.read(lambda connection: connection.execute(_PING).first())

    # accounts

    async def add_user(self, user: User, *, first_is_admin: bool = False) -> User:
        """Store a new account; raise EmailTaken. With `first_is_admin` the first becomes admin."""

        def add(connection: sa.Connection) -> User:
            added = user
            if first_is_admin:
                _lock_schema(connection)
                if not connection.scalar(sa.select(sa.func.count()).select_from(users)):
                    added = replace(user, role="admin")
            row = {**added.__dict__, "created_at": time.time()}
            del row["stamp"]  # a table of its own holds it
            connection.execute(users.insert().values(row))
            return added

        try:
            return await self.write(add)
        except IntegrityError:
            raise EmailTaken(user.email) from None

    async def user_by_email(self, email: str) -> User | None:
        """Return the account with this (lower-case) address."""
        return await self._user(_USER_BY_EMAIL, {"email": email})

    async def user_if_not_revoked(self, user_id: str, jti: str) -> User | None:
        """Return the account, or None when it is gone or the token was revoked. One query."""
        return await self._user(_USER_NOT_REVOKED, {"id": user_id, "jti": jti})

    async def _user(self, query: Any, values: dict[str, Any]) -> User | None:
        row = await self.first(query, values)
        return User(*tuple(row)) if row else None

    # revoked tokens

    async def revoke(self, jti: str, user_id: str, expires_at: int | None) -> None:
        """Store that a token is revoked; repeating it changes nothing."""
        row = {"jti": jti, "user_id": user_id, "expires_at": expires_at}

        def revoke(connection: sa.Connection) -> None:
            connection.execute(revoked_tokens.insert().values(row))
            log_auth_change(connection, jti=jti)

        with contextlib.suppress(IntegrityError):  # already revoked
            await self.write(revoke)

    async def forget_expired_revocations(self) -> None:
        """Delete the records of tokens that have expired anyway, and changes long known to all.

        Of both only what is so by any worker's clock: where a clock is behind, or is set back, a
        token has not expired yet.
        """
        past = time.time() - CLOCKS_DIFFER_S

        def forget(connection: sa.Connection) -> None:
            expired = revoked_tokens.c.expires_at < int(past)
            connection.execute(revoked_tokens.delete().where(expired))
            known = auth_changes.c.at < past
            connection.execute(auth_changes.delete().where(known))

        await self.write(forget)

    # chats

    async def add_chat(self, chat_id: str, user_id: str, title: str) -> None:
        """Store a new chat."""
        await self.write(lambda c: c.execute(chat_insert(chat_id, user_id, title)))

    async def chat(self, chat_id: str) -> Chat | None:
        """Return a chat, or None when there is no such chat."""
        row = await self.first(_CHAT, {"id": chat_id})
        return Chat(*tuple(row)) if row else None

    async def chat_owner(self, chat_id: str) -> str | None:
        """Return the id of the chat's owner, or None when there is no such chat."""
        row = await self.first(_CHAT_OWNER, {"id": chat_id})
        return str(row[0]) if row else None

    # transactions

    async def first(self, query: Any, values: dict[str, Any]) -> sa.Row[Any] | None:
        """Return the first row of a query."""
        return await self.read(lambda connection: connection.execute(query, values).first())

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a thread, in a transaction that reads; raise DatabaseUnavailable."""
        return await self._within(self._readers, work, writes=False)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do the same in a transaction that writes; also raise IntegrityError, DatabaseUncertain.

        What raises DatabaseUnavailable alone was not done, and will not be.
        """
        return await self._within(self._writer, work, writes=True)

    async def _within(self, lane: Lane, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        call = Call()
        try:
            return await lane.run(call, lambda: self._transaction(call, work, writes=writes))
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError, RuntimeError) as error:  # RuntimeError: closed
            words = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            uncertain = writes and call.commits
            raise (DatabaseUncertain if uncertain else DatabaseUnavailable)(words) from error

    def _transaction(self, call: Call, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        """In a thread: begin, work, commit; roll back when the caller has given up meanwhile."""
        with self._engine.connect() as plain:
            connection = plain.execution_options(**{WRITES: writes})
            with connection.begin():
                if writes:
                    self.on_write_wait(time.monotonic() - call.asked)
                result = work(connection)
                call.commit()
        return result


_PING = sa.text("SELECT 1")
_STAMP = (
    sa.select(token_stamps.c.stamp).where(token_stamps.c.user_id == users.c.id).scalar_subquery()
)
_USER_COLUMNS = (
    *(users.c.id, users.c.email, users.c.name, users.c.role, users.c.password_hash),
    sa.func.coalesce(_STAMP, 0),
)
_USER_BY_EMAIL = sa.select(*_USER_COLUMNS).where(users.c.email == sa.bindparam("email"))
_USER_NOT_REVOKED = sa.select(*_USER_COLUMNS).where(
    users.c.id == sa.bindparam("id"),
    ~sa.exists().where(revoked_tokens.c.jti == sa.bindparam("jti")),
)
_CHAT = sa.select(chats.c.id, chats.c.user_id, chats.c.title, chats.c.created_at).where(
    chats.c.id == sa.bindparam("id")
)
_CHAT_OWNER = sa.select(chats.c.user_id).where(chats.c.id == sa.bindparam("id"))


def chat_insert(chat_id: str, user_id: str, title: str) -> Any:
    """Return the statement that makes a chat."""
    row = {"id": chat_id, "user_id": user_id, "title": title, "created_at": time.time()}
    return chats.insert().values(row)


def _add_missing_columns(connection: sa.Connection) -> None:
    """Bring tables of an earlier version up to date; `create_all` only makes whole tables."""
    known = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                text = str(sa.schema.CreateColumn(column).compile(dialect=connection.dialect))
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {text}")


def log_auth_change(
    connection: sa.Connection, *, jti: str | None = None, user_id: str | None = None
) -> None:
    """Note in the log that a token, or everything about an account, has to be looked at anew.

    One writer at a time until it commits: so numbers appear in their order, and a reader that has
    seen one has seen all before it. SQLite's write lock does that by itself.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CHANGES_LOCK)))
    row = {"jti": jti, "user_id": user_id, "at": time.time()}
    connection.execute(auth_changes.insert().values(row))


def _lock_schema(connection: sa.Connection) -> None:
    """Let one worker at a time pass; SQLite's write lock does that by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
