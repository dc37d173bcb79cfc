"""Tasks in a real SQLite database: ends, stops, owners that die, and text that is kept."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from runtime.storage.database import Database
from runtime.tasks.store import MessageTaken, Partial, TaskRow, TaskStore, task_stops


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Yield an empty database."""
    found = Database(f"sqlite:///{tmp_path}/t.db")
    await found.open()
    yield found
    await found.close()


@pytest_asyncio.fixture
async def store(database: Database) -> TaskStore:
    """Return the store of worker `a`, which runs t1 and t2 in chat c."""
    found = TaskStore(database, "a")
    await found.beat()
    for n in (1, 2):
        row = TaskRow(f"t{n}", "c", "u", "running")
        await found.begin(row, f"m{n}", new_chat="Chat" if n == 1 else None)
    return found


async def end(store: TaskStore, task: str, state: str = "done", text: str = "text") -> bool:
    """End a task of chat c."""
    return await store.end(TaskRow(task, "c", "u", state), Partial(task, text, 4))


async def test_chat_is_idle_for_the_last_task_only(store: TaskStore) -> None:
    """Of two tasks that end at the same time, exactly one is told that the chat is idle."""
    other = TaskStore(store._database, "b")
    assert sorted(await asyncio.gather(end(store, "t1"), end(other, "t2"))) == [False, True]
    assert await store.running("c") == []
    assert await store.states(["t1", "t2", "t3"]) == {"t1": "done", "t2": "done"}


async def test_message_is_not_written_twice_at_once(store: TaskStore) -> None:
    """A second answer for a message waits for the end of the first, and then replaces it."""
    again = TaskRow("t3", "c", "u", "running")
    with pytest.raises(MessageTaken):
        await store.begin(again, "m1", new_chat=None)
    await end(store, "t1")
    await store.begin(again, "m1", new_chat=None)
    assert await store.task("t1") is None


async def test_stop_is_kept_for_its_owner_until_the_end(store: TaskStore) -> None:
    """A stop reaches the owner only, once, and is gone with its task."""
    for _ in range(2):
        await store.request_stop("t1")
    assert await store.stops_requested() == ["t1"]
    assert await TaskStore(store._database, "b").stops_requested() == []
    await end(store, "t1", "cancelled")
    await store.request_stop("t1")
    assert await store.stops_requested() == []


async def test_dead_owner_is_buried_once(store: TaskStore) -> None:
    """Of two survivors one ends the tasks, and only if the dead one did not count meanwhile."""
    survivor = TaskStore(store._database, "b")
    await survivor.request_stop("t1")
    stale = (await survivor.beats())["a"]
    assert await store.beat()
    assert await survivor.bury("a", stale) is None
    beat = (await survivor.beats())["a"]
    found = await asyncio.gather(survivor.bury("a", beat), survivor.bury("a", beat))
    (ended,) = [tasks for tasks in found if tasks is not None]
    assert [(t.task_id, t.message_id, t.idle) for t in ended] == [
        ("t1", "m1", True),
        ("t2", "m2", True),
    ]
    assert await kept_stops(store) == 0


async def kept_stops(store: TaskStore) -> int:
    """Return how many stops are kept, for whomever."""
    count = sa.select(sa.func.count()).select_from(task_stops)
    return int(await store._database.read(lambda c: c.scalar(count)) or 0)


async def test_owner_taken_for_dead_learns_it_and_changes_nothing(store: TaskStore) -> None:
    """Its next count says so; the end that it stores does not overwrite what users were told."""
    survivor = TaskStore(store._database, "b")
    await survivor.bury("a", 1)
    assert await store.beat() is False
    assert await store.beat() is True
    assert await end(store, "t1") is False
    assert (await store.states(["t1"]))["t1"] == "interrupted"


async def test_interrupted_message_takes_only_a_longer_text(store: TaskStore) -> None:
    """What Redis had beyond the database is added; what it had less is not."""
    await store.save([Partial("t1", "ab", 2), Partial("t2", "abcd", 4)])
    await store.bury("a", 1)
    for task in ("t1", "t2"):
        await store.complete(Partial(task, "abc", 3))
    rows = await store.messages_of("c")
    assert [(row.content, row.state) for row in rows] == [
        ("abc", "interrupted"),
        ("abcd", "interrupted"),
    ]


async def test_owner_that_leaves_leaves_nothing_running(store: TaskStore) -> None:
    """A drained worker is no owner any more, and what it could not end is interrupted."""
    await store.leave()
    assert await store.beats() == {}
    assert await store.running("c") == []


async def test_database_of_an_earlier_version_gets_the_new_columns(tmp_path: Path) -> None:
    """Columns that were added later are added to tables that exist, with their defaults."""
    old = sqlite3.connect(tmp_path / "old.db")
    old.execute(
        "CREATE TABLE messages (chat_id TEXT, id TEXT, task_id TEXT, user_id TEXT, content TEXT,"
        " state TEXT, created_at FLOAT)"
    )
    old.execute("INSERT INTO messages VALUES ('c', 'm', 't', 'u', 'text', 'done', 1.0)")
    old.commit()
    old.close()
    database = Database(f"sqlite:///{tmp_path}/old.db")
    await database.open()
    (row,) = await TaskStore(database, "a").messages_of("c")
    assert (row.content, row.sequence) == ("text", 0)
    await database.close()
