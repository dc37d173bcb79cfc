"""Tasks in a real PostgreSQL, where transactions of several workers run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from postgres_server import postgres

from runtime.storage.database import Database
from runtime.tasks.store import Partial, TaskRow, TaskStore

CHATS = 40


@pytest_asyncio.fixture
async def stores(tmp_path: Path) -> AsyncIterator[list[TaskStore]]:
    """Yield the stores of two workers that opened a new database at the same time."""
    async with postgres(tmp_path) as server:
        url = await server.new()
        databases = [Database(url), Database(url)]
        await asyncio.gather(*(database.open() for database in databases))
        yield [TaskStore(database, f"w{n}") for n, database in enumerate(databases)]
        for database in databases:
            await database.close()


async def begin(store: TaskStore, chat: str, task: str, new: bool) -> None:
    """Begin a task in a chat."""
    row = TaskRow(task, chat, "u", "running")
    await store.begin(row, task, new_chat="Chat" if new else None)


async def end(store: TaskStore, chat: str, task: str) -> bool:
    """End it; tell whether its worker is told that the chat is idle."""
    return await store.end(TaskRow(task, chat, "u", "done"), Partial(task, "text", 1))


async def test_one_of_two_ends_at_once_finds_the_chat_idle(stores: list[TaskStore]) -> None:
    """Chat after chat, two workers end its two tasks at the same moment: one is told, not both."""
    one, two = stores
    for n in range(CHATS):
        await begin(one, f"c{n}", f"a{n}", new=True)
        await begin(two, f"c{n}", f"b{n}", new=False)
    for n in range(CHATS):
        told = await asyncio.gather(end(one, f"c{n}", f"a{n}"), end(two, f"c{n}", f"b{n}"))
        assert sorted(told) == [False, True], n


async def test_dead_worker_is_buried_by_one_and_stops_are_kept(stores: list[TaskStore]) -> None:
    """Two survivors bury at the same moment; a stop that two workers keep is there once."""
    one, two = stores
    dead = TaskStore(one._database, "dead")
    assert await dead.beat() is False
    await begin(dead, "c", "t", new=True)
    await asyncio.gather(one.request_stop("t"), two.request_stop("t"))
    assert await dead.stops_requested() == ["t"]
    found = await asyncio.gather(one.bury("dead", 1), two.bury("dead", 1))
    assert [[task.task_id for task in tasks] for tasks in found if tasks is not None] == [["t"]]
    assert await one.states(["t"]) == {"t": "interrupted"}
    await one.complete(Partial("t", "longer", 3))
    assert [row.content for row in await two.messages_of("c")] == ["longer"]
    await dead.leave()


async def test_a_text_that_postgresql_cannot_hold_is_stored_all_the_same(
    stores: list[TaskStore],
) -> None:
    """A model may send U+0000: else its answer, and those beside it, could never be saved."""
    store = stores[0]
    await begin(store, "c", "bad", new=True)
    await begin(store, "c", "good", new=False)
    await store.save([Partial("bad", "a\0b", 2), Partial("good", "fine", 1)])
    assert await store.end(TaskRow("bad", "c", "u", "done"), Partial("bad", "a\0b\0", 3)) is False
    found = {row.id: (row.content, row.state) for row in await store.messages_of("c")}
    assert found == {"bad": ("a\ufffdb\ufffd", "done"), "good": ("fine", "running")}
