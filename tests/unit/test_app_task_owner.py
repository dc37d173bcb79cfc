"""Who counts as dead, and what happens to the tasks of those who do, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from runtime.redis.keys import Keys
from runtime.storage.database import Database
from runtime.tasks.owner import LOOKS, TaskOwner
from runtime.tasks.registry import Tasks
from runtime.tasks.response_streams import ResponseStreams
from runtime.tasks.store import Partial, TaskRow, TaskStore


@dataclass
class Worker:
    """One worker process, without Redis: what it runs, and what it told users."""

    database: Database
    name: str
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Wire it."""
        self.store = TaskStore(self.database, self.name)
        self.tasks = Tasks(self.store.request_stop)
        streams = ResponseStreams(self.store, None, Keys("test"), 3600)
        self.owner = TaskOwner(self.store, self.tasks, streams, None, self._emit)

    async def _emit(self, user: str, payload: dict[str, Any]) -> None:
        self.told.append({"user": user, **payload})

    def kinds(self) -> list[str]:
        """Return the types of what it told."""
        return [payload["data"]["type"] for payload in self.told]


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    """Yield two workers on one database; `b` has a task in its rows."""
    database = Database(f"sqlite:///{tmp_path}/t.db")
    await database.open()
    here, other = Worker(database, "a"), Worker(database, "b")
    for worker in (here, other):
        await worker.owner.start()
    await other.store.begin(TaskRow("t", "c", "u", "running"), "m", new_chat="Chat")
    await other.store.save([Partial("t", "so far", 2)])
    yield here, other
    await database.close()


async def looks(worker: Worker, count: int) -> None:
    """Look around so many times."""
    for _ in range(count):
        await worker.owner.look()


async def test_worker_that_counts_is_never_buried(pair: tuple[Worker, Worker]) -> None:
    """However slow it is: one count within the looks is enough."""
    here, other = pair
    for _ in range(3):
        await looks(here, LOOKS)
        await other.owner.beat()
    assert (await other.store.states(["t"]), here.told) == ({"t": "running"}, [])


async def test_silent_worker_is_buried_and_its_user_told(pair: tuple[Worker, Worker]) -> None:
    """After the first look and five that found nothing new; the text so far stays."""
    here, other = pair
    await looks(here, LOOKS)
    assert here.told == []
    await looks(here, 3)
    assert here.kinds() == ["chat:message:error", "chat:active"]
    assert {payload["user"] for payload in here.told} == {"u"}
    (row,) = await other.store.messages_of("c")
    assert (row.content, row.state) == ("so far", "interrupted")
    assert here.owner.status == {"others": 0, "buried": 1, "interrupted": 1, "strangers": 0}


async def test_worker_that_was_buried_ends_what_it_runs(pair: tuple[Worker, Worker]) -> None:
    """Its next count tells it; tasks that nobody took go on."""
    here, other = pair
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await other.tasks.start("t", "c", work)
    await looks(here, LOOKS + 1)
    await other.owner.beat()
    await asyncio.wait_for(ended.wait(), 2)
    assert "b" in await here.store.beats()


async def test_drained_worker_is_not_missed(pair: tuple[Worker, Worker]) -> None:
    """One that left is nobody's to bury, and counts no more."""
    here, other = pair
    await other.owner.leave()
    await other.owner.beat()
    await looks(here, LOOKS + 2)
    assert (here.told, await here.store.beats()) == ([], {"a": 1})


async def test_tasks_of_strangers_are_told_once_until_they_are_gone(
    pair: tuple[Worker, Worker], caplog: pytest.LogCaptureFixture
) -> None:
    """Every look would fill the log; those who come after all had gone are told again."""
    here, _ = pair
    here.owner.note_strangers(2)
    here.owner.note_strangers(3)
    assert here.owner.status["strangers"] == 3
    here.owner.note_strangers(0)
    here.owner.note_strangers(1)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.split(" ", 1)[0] for text in told] == ["2", "1"]
