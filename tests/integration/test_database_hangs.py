"""PostgreSQL hangs: callers are refused in time, and what they were told is what happened."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio
import sqlalchemy as sa
from net_parts import guarded

from harness.deploy import model
from harness.deploy.postgres import find_program, start_postgres
from harness.waiting import wait_for, wait_for_sync
from runtime.redis.keys import Keys
from runtime.storage.database import Database, DatabaseUnavailable, DatabaseUncertain, User
from runtime.storage.lanes import Patience
from runtime.tasks import completions
from runtime.tasks.completions import DONE, Completion, Request, Tools
from runtime.tasks.response_streams import ResponseStreams
from runtime.tasks.store import RUNNING, Partial, TaskRow, TaskStore

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(find_program("postgres") is None, reason="no PostgreSQL"),
]
SHORT = Patience(answer_s=0.6, held_s=0.2)


class Hang:
    """A server that can be paused, from any thread."""

    def __init__(self, server: model.Database) -> None:
        assert server.process is not None
        self.url = server.url
        self._first = psutil.Process(server.process.pid)
        self._all: list[psutil.Process] = []

    def begin(self) -> None:
        """Pause it; returns when every process of it stands still."""
        self._first.suspend()
        wait_for_sync(lambda: _stopped(self._first), 5, "no new process comes")
        self._all = [self._first, *self._first.children(recursive=True)]
        for process in self._all:
            process.suspend()
        wait_for_sync(lambda: all(map(_stopped, self._all)), 5, "the server hangs")

    def end(self) -> None:
        """Let it go on."""
        for process in self._all:
            process.resume()


def _stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hang(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hang]:
    """Give a server for all tests, each of which leaves it whole."""
    async with guarded(tmp_path_factory.mktemp("hang")) as (guardian, made):
        found = Hang(await start_postgres(guardian, f"{made.subnet}.4"))
        patient = Database(found.url)
        await patient.open()  # makes the tables, which takes longer than the tests' patience
        await patient.close()
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def database(hang: Hang) -> AsyncIterator[Database]:
    """Give an open database whose callers have little patience."""
    database = Database(hang.url, SHORT)
    await database.open()
    yield database
    await database.close()


async def account(database: Database) -> User:
    """Store an account and return it."""
    name = str(uuid.uuid4())
    return await database.add_user(User(name, f"{name}@app.example", "A", "user", "hash"))


async def test_what_was_refused_did_not_happen_then_or_later(
    hang: Hang, database: Database
) -> None:
    """A sign-out that could not be stored is not stored when the database comes back either."""
    user = await account(database)
    hang.begin()
    with pytest.raises(DatabaseUnavailable, match="no answer within") as refused:
        await database.revoke("late", user.id, None)
    assert not isinstance(refused.value, DatabaseUncertain)
    hang.end()

    async def stored() -> bool:
        await database.revoke("next", user.id, None)  # the thread is free again, after the other
        return True

    await wait_for(stored, 5, "it stores again")
    assert await database.user_if_not_revoked(user.id, "late")
    assert await database.user_if_not_revoked(user.id, "next") is None


async def test_nobody_waits_in_line_for_a_database_that_hangs(
    hang: Hang, database: Database
) -> None:
    """Once every reader is held, more are refused at once; after it all of them serve."""
    await asyncio.gather(*(database.ping() for _ in range(3)))
    hang.begin()
    tries = await asyncio.gather(*(database.ping() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in tries] == [DatabaseUnavailable] * 3
    with pytest.raises(DatabaseUnavailable, match="has not answered anything for"):
        await database.ping()
    hang.end()

    async def serves() -> bool:
        await database.ping()
        return True

    await wait_for(serves, 5, "it serves again")


async def test_a_commit_that_got_no_answer_is_uncertain(hang: Hang, database: Database) -> None:
    """The server hangs as it is asked to commit; it may do so when it goes on, as it does here."""
    user = await account(database)

    hangs = iter([hang.begin])  # once

    @sa.event.listens_for(database.engine, "commit")
    def _pause(_: sa.Connection) -> None:
        for begin in hangs:
            begin()

    with pytest.raises(DatabaseUncertain):
        await database.revoke("committed", user.id, None)
    hang.end()

    async def revoked() -> bool:
        return await database.user_if_not_revoked(user.id, "committed") is None

    await wait_for(revoked, 5, "the commit is carried out")


async def test_a_worker_can_end_while_the_database_hangs(hang: Hang) -> None:
    """Its threads are freed by breaking their connections off."""
    database = Database(hang.url, SHORT)
    await database.open()
    hang.begin()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await asyncio.wait_for(database.close(), 20)
    hang.end()


class Words:
    """A provider that streams two words and ends."""

    async def stream(self, _: dict[str, Any]) -> AsyncIterator[str]:
        """Yield them."""
        for word in ("two ", "words"):
            yield word


async def test_an_answer_that_ended_meanwhile_is_kept(
    hang: Hang, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words reach the database when that is back, after however many tries."""
    monkeypatch.setattr(completions, "SAVE_PAUSE_S", 0.01)
    monkeypatch.setattr(completions, "SAVE_PAUSE_MOST_S", 0.02)
    store, tries = TaskStore(database, "w0"), 0
    ids = {name: str(uuid.uuid4()) for name in ("task", "chat", "message", "user")}
    await store.begin(
        TaskRow(ids["task"], ids["chat"], ids["user"], RUNNING), ids["message"], new_chat="t"
    )
    end = store.end

    async def counted(row: TaskRow, result: Partial) -> bool:
        nonlocal tries
        tries += 1
        return await end(row, result)

    async def nobody(_user: str, _event: dict[str, Any]) -> None:
        return None

    monkeypatch.setattr(store, "end", counted)
    streams = ResponseStreams(store, None, Keys("p"), 60)
    tools = Tools(Words(), store, streams, nobody, lambda _: None)  # type: ignore[arg-type]  # no HTTP
    request = Request(ids["task"], ids["chat"], ids["message"], ids["user"], {})
    hang.begin()
    work = asyncio.create_task(Completion(request, tools).run())
    await wait_for(lambda: tries >= 10, 20, "ten tries")
    hang.end()
    await asyncio.wait_for(work, 10)
    [message] = await store.messages_of(ids["chat"])
    assert (message.content, message.state, message.sequence) == ("two words", DONE, 2)
