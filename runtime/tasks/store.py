"""Tasks as the database knows them: the truth that outlives workers and Redis.

A message's row says which worker process produces it (`owner`), how far it got, and how it ended.
`task_owners` holds a counter per worker process that goes up while it lives; `task_stops` the
stops that no owner has confirmed yet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from runtime.storage.database import Database, chat_insert, chats, messages, metadata

RUNNING, INTERRUPTED = "running", "interrupted"
ASK_AT_ONCE = 500  # ids in one query

task_owners = sa.Table(
    "task_owners",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
)
task_stops = sa.Table(
    "task_stops",
    metadata,
    sa.Column("task_id", sa.String(36), primary_key=True),
    sa.Column("requested_at", sa.Float, nullable=False),  # for people who look
)


class MessageTaken(Exception):
    """A task for this message is still running."""


@dataclass(frozen=True)
class TaskRow:
    """The task that produces one message, and its state (`running`, `done`, …)."""

    task_id: str
    chat_id: str
    user_id: str
    state: str


@dataclass(frozen=True)
class MessageRow:
    """One message with what is stored of its text; `sequence` counts the pieces in it."""

    id: str
    task_id: str
    content: str
    state: str
    sequence: int
    created_at: float


@dataclass(frozen=True)
class Partial:
    """The text of a running task so far, and of how many pieces it consists."""

    task_id: str
    text: str
    sequence: int


@dataclass(frozen=True)
class Interrupted:
    """A task whose worker died; `idle`: its chat has no other running task."""

    task_id: str
    chat_id: str
    message_id: str
    user_id: str
    sequence: int
    idle: bool


class TaskStore:
    """The task queries of one worker process. All raise DatabaseUnavailable.

    `owner` names the process, not the machine: a restarted worker is another owner.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self.owner = owner

    # a task's life

    async def begin(self, row: TaskRow, message_id: str, *, new_chat: str | None) -> None:
        """Store a message whose task begins; raise MessageTaken while another one writes it.

        `new_chat` is the title of a chat to make with it.
        """

        def begin(connection: sa.Connection) -> None:
            if new_chat is not None:
                connection.execute(chat_insert(row.chat_id, row.user_id, new_chat))
            else:
                # asked for again: the new answer takes the place of the old one
                connection.execute(_DROP_ENDED, {"chat": row.chat_id, "message": message_id})
            values = {**row.__dict__, "id": message_id, "content": "", "created_at": time.time()}
            try:
                connection.execute(messages.insert().values(**values, owner=self.owner))
            except IntegrityError:
                raise MessageTaken(message_id) from None

        await self._database.write(begin)

    async def end(self, row: TaskRow, result: Partial) -> bool:
        """Store what a task produced and its last state; tell whether its chat is idle now.

        Of several workers that end tasks of one chat at once, exactly one is told True. A task
        that was taken for dead keeps its state `interrupted`, and gets False.
        """
        values = {"task": row.task_id, "text": result.text, "n": result.sequence, "how": row.state}

        def end(connection: sa.Connection) -> bool:
            ended = connection.execute(_END, values).rowcount
            connection.execute(_FORGET_STOP, {"task": row.task_id})
            return bool(ended) and _idle(connection, row.chat_id)

        return await self._database.write(end)

    async def save(self, partials: Sequence[Partial]) -> None:
        """Keep what running tasks have produced so far."""
        rows = [{"task": p.task_id, "text": p.text, "n": p.sequence} for p in partials]
        if rows:
            await self._database.write(lambda connection: connection.execute(_SAVE, rows))

    async def task(self, task_id: str) -> TaskRow | None:
        """Return what is known about a task."""
        row = await self._database.first(_TASK, {"task": task_id})
        return TaskRow(*tuple(row)) if row else None

    async def running(self, chat_id: str) -> list[str]:
        """Return the ids of a chat's tasks whose end was not stored yet."""
        return await self._ids(_RUNNING_TASKS, {"chat": chat_id})

    async def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the states of those tasks that are known."""

        def ask(connection: sa.Connection) -> dict[str, str]:
            found: dict[str, str] = {}
            for start in range(0, len(ids), ASK_AT_ONCE):
                some = list(ids[start : start + ASK_AT_ONCE])
                found.update(
                    {str(i): str(s) for i, s in connection.execute(_STATES, {"ids": some})}
                )
            return found

        return await self._database.read(ask) if ids else {}

    async def messages_of(self, chat_id: str) -> list[MessageRow]:
        """Return the messages of a chat, oldest first."""
        query = {"chat": chat_id}
        rows = await self._database.read(lambda c: c.execute(_MESSAGES, query).all())
        return [MessageRow(*tuple(row)) for row in rows]

    # stops

    async def request_stop(self, task_id: str) -> None:
        """Keep a stop until the task has ended; of an ended task nothing is kept."""

        def keep(connection: sa.Connection) -> None:
            row = connection.execute(_TASK, {"task": task_id}).first()
            there = connection.execute(_STOP, {"task": task_id}).first()
            if row is not None and TaskRow(*tuple(row)).state == RUNNING and there is None:
                values = {"task_id": task_id, "requested_at": time.time()}
                connection.execute(task_stops.insert().values(values))

        try:
            await self._database.write(keep)
        except IntegrityError:
            return  # another worker was asked as well

    async def stops_requested(self) -> list[str]:
        """Return the ids of this owner's running tasks that somebody wants stopped."""
        return await self._ids(_STOPS_OF, {"whose": self.owner})

    # owners

    async def beat(self) -> bool:
        """Say that this process lives; False when it was unknown: new, or taken for dead."""

        def beat(connection: sa.Connection) -> bool:
            known = bool(connection.execute(_BEAT, {"whose": self.owner}).rowcount)
            if not known:
                connection.execute(task_owners.insert().values(id=self.owner, beat=1))
            return known

        return await self._database.write(beat)

    async def beats(self) -> dict[str, int]:
        """Return the counter of every worker process that is not known to be dead."""
        rows = await self._database.read(lambda connection: connection.execute(_BEATS).all())
        return {str(owner): int(beat) for owner, beat in rows}

    async def bury(self, owner: str, beat: int) -> list[Interrupted] | None:
        """End the tasks of a dead process; None when it lives, or somebody else has done it.

        `beat` is the fence: a counter that went up meanwhile proves life.
        """

        def bury(connection: sa.Connection) -> list[Interrupted] | None:
            if not connection.execute(_BURY, {"whose": owner, "seen": beat}).rowcount:
                return None
            return _interrupt(connection, owner)

        return await self._database.write(bury)

    async def complete(self, partial: Partial) -> None:
        """Give an interrupted task the text that Redis had and the database had not."""
        values = {"task": partial.task_id, "text": partial.text, "n": partial.sequence}
        await self._database.write(lambda connection: connection.execute(_COMPLETE, values))

    async def leave(self) -> None:
        """Take this process out of the owners; what it still runs is interrupted."""

        def leave(connection: sa.Connection) -> None:
            connection.execute(task_owners.delete().where(task_owners.c.id == self.owner))
            _interrupt(connection, self.owner)

        await self._database.write(leave)

    async def _ids(self, query: sa.Select[tuple[str]], values: dict[str, str]) -> list[str]:
        rows = await self._database.read(lambda c: c.execute(query, values).all())
        return [str(row[0]) for row in rows]


def _interrupt(connection: sa.Connection, owner: str) -> list[Interrupted]:
    """Mark all running tasks of an owner, chat by chat."""
    rows = connection.execute(_RUNNING_OF, {"whose": owner}).all()
    connection.execute(_FORGET_STOPS_OF, {"whose": owner})
    connection.execute(_INTERRUPT, {"whose": owner})
    idle = {chat: _idle(connection, chat) for chat in sorted({row.chat_id for row in rows})}
    return [Interrupted(*row[:5], idle=idle[row.chat_id]) for row in rows]


def _idle(connection: sa.Connection, chat_id: str) -> bool:
    """Tell whether no task of a chat runs; the chat's row makes concurrent askers take turns."""
    connection.execute(_LOCK_CHAT, {"chat": chat_id})
    return connection.execute(_RUNNING_TASKS, {"chat": chat_id}).first() is None


_task: sa.BindParameter[str] = sa.bindparam("task")
_chat: sa.BindParameter[str] = sa.bindparam("chat")
_of_owner = (messages.c.owner == sa.bindparam("whose"), messages.c.state == RUNNING)
_TASK = sa.select(
    messages.c.task_id, messages.c.chat_id, messages.c.user_id, messages.c.state
).where(messages.c.task_id == _task)
_STATES = sa.select(messages.c.task_id, messages.c.state).where(
    messages.c.task_id.in_(sa.bindparam("ids", expanding=True))
)
_RUNNING_TASKS = sa.select(messages.c.task_id).where(
    messages.c.chat_id == _chat, messages.c.state == RUNNING
)
_MESSAGES = (
    sa.select(
        *(messages.c.id, messages.c.task_id, messages.c.content),
        *(messages.c.state, messages.c.sequence, messages.c.created_at),
    )
    .where(messages.c.chat_id == _chat)
    .order_by(messages.c.created_at)
)
_LOCK_CHAT = sa.select(chats.c.id).where(chats.c.id == _chat).with_for_update()
_keep: dict[str, sa.BindParameter[Any]] = {
    "content": sa.bindparam("text"),
    "sequence": sa.bindparam("n"),
}
_SAVE = (
    messages.update().where(messages.c.task_id == _task, messages.c.state == RUNNING).values(_keep)
)
_END = _SAVE.values(state=sa.bindparam("how"))
_COMPLETE = (
    messages.update()
    .where(messages.c.task_id == _task, messages.c.state == INTERRUPTED)
    .where(messages.c.sequence < sa.bindparam("n"))
    .values(_keep)
)
_DROP_ENDED = messages.delete().where(
    messages.c.chat_id == _chat,
    messages.c.id == sa.bindparam("message"),
    messages.c.state != RUNNING,
)
_STOP = sa.select(task_stops.c.task_id).where(task_stops.c.task_id == _task)
_FORGET_STOP = task_stops.delete().where(task_stops.c.task_id == _task)
_STOPS_OF = (
    sa.select(task_stops.c.task_id)
    .join(messages, messages.c.task_id == task_stops.c.task_id)
    .where(*_of_owner)
)
_FORGET_STOPS_OF = task_stops.delete().where(
    task_stops.c.task_id.in_(sa.select(messages.c.task_id).where(*_of_owner))
)
_BEAT = (
    task_owners.update()
    .where(task_owners.c.id == sa.bindparam("whose"))
    .values(beat=task_owners.c.beat + 1)
)
_BEATS = sa.select(task_owners.c.id, task_owners.c.beat)
_BURY = task_owners.delete().where(
    task_owners.c.id == sa.bindparam("whose"), task_owners.c.beat == sa.bindparam("seen")
)
_RUNNING_OF = sa.select(
    *(messages.c.task_id, messages.c.chat_id, messages.c.id),
    *(messages.c.user_id, messages.c.sequence),
).where(*_of_owner)
_INTERRUPT = messages.update().where(*_of_owner).values(state=INTERRUPTED)
