"""The durable truth: accounts, chats, messages and revoked tokens, in SQLite or PostgreSQL.

Several workers share one database. Every call is asynchronous; SQLite runs in threads of its
driver, never on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_S = 5.0
POOL_SIZE = 4
SCHEMA_LOCK = 7_305_120_011  # any number that nothing else in a PostgreSQL database uses

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
    sa.Column("state", sa.String(16), nullable=False),  # running, done, cancelled or error
    sa.Column("created_at", sa.Float, nullable=False),
)
revoked_tokens = sa.Table(
    "revoked_tokens",
    metadata,
    sa.Column("jti", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(36), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=True, index=True),
)

RUNNING = "running"


class DatabaseUnavailable(Exception):
    """The database did not answer; nothing is known about what was asked."""


class EmailTaken(Exception):
    """An account with this e-mail address exists."""


class MessageTaken(Exception):
    """A task for this message is still running."""


@dataclass(frozen=True)
class User:
    """One account. `role` is admin, user or pending."""

    id: str
    email: str
    name: str
    role: str
    password_hash: str = ""


@dataclass(frozen=True)
class TaskRow:
    """The task that produces one message. `state` is running, done, cancelled or error."""

    task_id: str
    chat_id: str
    user_id: str
    state: str


def async_url(url: str) -> str:
    """Return the URL with the asynchronous driver of its database."""
    for plain, driver in (
        ("sqlite://", "sqlite+aiosqlite://"),
        ("postgresql://", "postgresql+asyncpg://"),
        ("postgres://", "postgresql+asyncpg://"),
    ):
        if url.startswith(plain):
            return driver + url.removeprefix(plain)
    return url


class Database:
    """All queries of the runtime. Raises DatabaseUnavailable when the database does not answer."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(async_url(url))

    async def open(self) -> None:
        """Create missing tables; safe when several workers do it at once."""
        async with self._write() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
            await connection.run_sync(metadata.create_all)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Return when the database answers."""
        async with self._read() as connection:
            await connection.execute(sa.text("SELECT 1"))

    # accounts

    async def add_user(self, user: User, *, first_is_admin: bool = False) -> User:
        """Store a new account; raise EmailTaken. With `first_is_admin` the first becomes admin."""
        async with self._write() as connection:
            if first_is_admin:
                if connection.dialect.name == "postgresql":
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                count = await connection.scalar(sa.select(sa.func.count()).select_from(users))
                role = user.role if count else "admin"
                user = User(user.id, user.email, user.name, role, user.password_hash)
            row = {**user.__dict__, "created_at": time.time()}
            try:
                await connection.execute(users.insert().values(row))
            except IntegrityError:
                raise EmailTaken(user.email) from None
            return user

    async def user_by_email(self, email: str) -> User | None:
        """Return the account with this (lower-case) address."""
        return await self._user(_USER_BY_EMAIL, {"email": email})

    async def user_if_not_revoked(self, user_id: str, jti: str) -> User | None:
        """Return the account, or None when it is gone or the token was revoked. One query."""
        return await self._user(_USER_NOT_REVOKED, {"id": user_id, "jti": jti})

    async def _user(self, query: Any, values: dict[str, Any]) -> User | None:
        async with self._read() as connection:
            row = (await connection.execute(query, values)).first()
            return User(*row) if row else None

    # revoked tokens

    async def revoke(self, jti: str, user_id: str, expires_at: int | None) -> None:
        """Store that a token is revoked; repeating it changes nothing."""
        row = {"jti": jti, "user_id": user_id, "expires_at": expires_at}
        try:
            async with self._write() as connection:
                await connection.execute(revoked_tokens.insert().values(row))
        except IntegrityError:
            return  # already revoked

    async def forget_expired_revocations(self) -> None:
        """Delete the records of tokens that have expired anyway."""
        async with self._write() as connection:
            old = revoked_tokens.c.expires_at < int(time.time()) - 60
            await connection.execute(revoked_tokens.delete().where(old))

    # chats and the tasks that write their messages

    async def add_chat(self, chat_id: str, user_id: str, title: str) -> None:
        """Store a new chat."""
        async with self._write() as connection:
            await connection.execute(_chat_insert(chat_id, user_id, title))

    async def chat_owner(self, chat_id: str) -> str | None:
        """Return the id of the chat's owner, or None when there is no such chat."""
        async with self._read() as connection:
            owner = await connection.scalar(_CHAT_OWNER, {"id": chat_id})
            return None if owner is None else str(owner)

    async def begin_message(self, row: TaskRow, message_id: str, *, new_chat: str | None) -> None:
        """Store a message whose task begins; `new_chat` is the title of a chat to make with it."""
        async with self._write() as connection:
            if new_chat is not None:
                await connection.execute(_chat_insert(row.chat_id, row.user_id, new_chat))
            else:
                # asked for again: the new answer takes the place of the old one
                await connection.execute(_DROP_ENDED, {"chat": row.chat_id, "message": message_id})
            values = {**row.__dict__, "id": message_id, "content": "", "created_at": time.time()}
            try:
                await connection.execute(messages.insert().values(values))
            except IntegrityError:
                raise MessageTaken(message_id) from None

    async def end_message(self, task_id: str, content: str, state: str) -> None:
        """Store what a task produced and how it ended."""
        async with self._write() as connection:
            await connection.execute(_END, {"task": task_id, "text": content, "how": state})

    async def task(self, task_id: str) -> TaskRow | None:
        """Return what is known about a task."""
        async with self._read() as connection:
            row = (await connection.execute(_TASK, {"task": task_id})).first()
            return TaskRow(*row) if row else None

    async def running_tasks(self, chat_id: str) -> list[str]:
        """Return the ids of a chat's tasks whose end was not stored yet."""
        async with self._read() as connection:
            rows = await connection.execute(_RUNNING_TASKS, {"chat": chat_id})
            return [str(row[0]) for row in rows]

    # transactions

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except _ANSWERS:
            raise
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(**{WRITES: True})
                async with connection.begin():
                    yield connection
        except _ANSWERS:
            raise
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise DatabaseUnavailable(f"{type(error).__name__}: {error}") from error


WRITES = "runtime_writes"
_ANSWERS = (IntegrityError, EmailTaken, MessageTaken, asyncio.CancelledError)
_USER_COLUMNS = (users.c.id, users.c.email, users.c.name, users.c.role, users.c.password_hash)
_USER_BY_EMAIL = sa.select(*_USER_COLUMNS).where(users.c.email == sa.bindparam("email"))
_USER_NOT_REVOKED = sa.select(*_USER_COLUMNS).where(
    users.c.id == sa.bindparam("id"),
    ~sa.exists().where(revoked_tokens.c.jti == sa.bindparam("jti")),
)
_CHAT_OWNER = sa.select(chats.c.user_id).where(chats.c.id == sa.bindparam("id"))
_TASK = sa.select(
    messages.c.task_id, messages.c.chat_id, messages.c.user_id, messages.c.state
).where(messages.c.task_id == sa.bindparam("task"))
_RUNNING_TASKS = sa.select(messages.c.task_id).where(
    messages.c.chat_id == sa.bindparam("chat"), messages.c.state == RUNNING
)
_END = (
    messages.update()
    .where(messages.c.task_id == sa.bindparam("task"))
    .values(content=sa.bindparam("text"), state=sa.bindparam("how"))
)
_DROP_ENDED = messages.delete().where(
    messages.c.chat_id == sa.bindparam("chat"),
    messages.c.id == sa.bindparam("message"),
    messages.c.state != RUNNING,
)


def _chat_insert(chat_id: str, user_id: str, title: str) -> Any:
    row = {"id": chat_id, "user_id": user_id, "title": title, "created_at": time.time()}
    return chats.insert().values(row)


def _engine(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_size=POOL_SIZE, pool_pre_ping=True, pool_timeout=2)
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )
    sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Leave transactions to us; readers never wait for the writer (WAL)."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once when we shall write: a late upgrade could not wait for it."""
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
