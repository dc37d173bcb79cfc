"""The records of tasks on a real server: written first, removed for sure, left to their owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bus_servers import Server, serving, topology_of, until

from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.supervision import Supervisor
from runtime.tasks.records import TaskRecords
from runtime.tasks.registry import Tasks

KEYS = Keys("test")


class Worker:
    """The tasks of one worker on one server; `states` is what the database would say."""

    def __init__(self, server: Server, name: str, ttl_s: int) -> None:
        settings = load_settings({"REDIS_URL": server.url})
        self._topology = topology_of(settings)
        self._client = RedisClient(self._topology, settings)
        self.states: dict[str, str] = {}
        self.records = TaskRecords(self._client, KEYS, name, ttl_s, self._states)
        self.tasks = Tasks(self._keep_stop, self.records)
        self.records.running = lambda: self.tasks.running
        self.records.is_finished = self.tasks.is_finished
        self._supervisor = Supervisor()

    async def _states(self, ids: Sequence[str]) -> dict[str, str]:
        return {i: self.states[i] for i in ids if i in self.states}

    async def _keep_stop(self, task_id: str) -> None:
        raise AssertionError(task_id)

    def start(self) -> None:
        """Begin to write."""
        self._supervisor.run("records", self.records.keep)

    async def stop(self) -> None:
        """Close everything."""
        await self._supervisor.stop()
        await self._client.close()
        await self._topology.close()


@asynccontextmanager
async def worker(server: Server, name: str = "a", ttl_s: int = 300) -> AsyncIterator[Worker]:
    """Run a worker."""
    found = Worker(server, name, ttl_s)
    found.start()
    try:
        yield found
    finally:
        await found.stop()


async def test_work_begins_when_its_record_is_there(tmp_path: Path) -> None:
    """The first step of the work already finds the task in Redis."""
    seen: list[object] = []
    async with serving(tmp_path) as server, worker(server) as here:

        async def work() -> None:
            seen.append(await server.call("HGET", KEYS.tasks, "t"))

        await here.tasks.start("t", "c", work)
        await until(lambda: here.tasks.is_finished("t"))
    assert seen == ["c"]


@pytest.mark.parametrize(("ttl_s", "expires"), [(300, True), (0, False)])
async def test_marker_expires_unless_it_is_for_ever(
    tmp_path: Path, ttl_s: int, expires: bool
) -> None:
    """A marker lives as long as REDIS_TASK_TTL says; 0 is for mixed versions: for ever."""
    release = asyncio.Event()
    async with serving(tmp_path) as server, worker(server, ttl_s=ttl_s) as here:
        await here.tasks.start("t", "c", _waiting(release))
        lives = await server.call("TTL", KEYS.task("t"))
        assert (0 < lives <= ttl_s) if expires else lives == -1
        release.set()
        await until(lambda: _nothing(server))


async def test_stop_before_the_work_began_reaches_the_work(tmp_path: Path) -> None:
    """A stop that comes while the record is being written lets the work end in its own way."""
    outcome: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")

    async with serving(tmp_path) as server, worker(server) as here:
        starting = asyncio.create_task(here.tasks.start("t", "c", work))
        await asyncio.sleep(0)  # one turn of the loop: known, not registered
        assert here.tasks.is_running("t")
        assert here.tasks.cancel("t") == "cancelled"
        await starting
        await until(lambda: here.tasks.is_finished("t"))
        assert outcome == ["cancelled"]
        await until(lambda: _nothing(server))


async def _nothing(server: Server) -> bool:
    return await server.call("KEYS", "test:tasks*") == []


async def test_task_that_ends_in_an_outage_is_unlisted_after_it(tmp_path: Path) -> None:
    """Redis is killed with the record on disk; it goes when Redis is back, the task long over."""
    server = Server(tmp_path, "redis", "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    await server.ready()
    release = asyncio.Event()
    try:
        async with worker(server) as here, worker(server, "b") as other:
            await here.tasks.start("t", "c", _waiting(release))
            assert await other.records.list_item("c") == ["t"]
            server.kill()
            release.set()
            await until(lambda: here.tasks.is_finished("t"))
            server.start()
            await server.ready()
            await until(lambda: _nothing(server))
            assert await until(lambda: _listed(other)) == "nothing"
    finally:
        server.kill()


def _waiting(release: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        await release.wait()

    return work


async def _listed(other: Worker) -> str:
    return "nothing" if await other.records.list_all() == [] else ""


async def test_a_write_ends_while_tasks_come_and_go(tmp_path: Path) -> None:
    """What changes during a write is for the next one, or comparing and /ready would starve."""

    async def come_and_go() -> None:
        number = 0
        while True:
            here.records.forget(f"t{number}", "c")
            number += 1
            await asyncio.sleep(0)

    async with serving(tmp_path) as server, worker(server) as here:
        busy = asyncio.create_task(come_and_go())
        await until(lambda: here.records.pending)
        async with asyncio.timeout(10):
            await here.records.flush()
        busy.cancel()


async def test_records_of_another_version_are_not_removed_by_a_listing(tmp_path: Path) -> None:
    """Without a marker the database decides what is listed; nothing is deleted by looking."""
    async with serving(tmp_path) as server, worker(server) as here:
        for task in ("running", "ended", "unknown"):
            await server.call("HSET", KEYS.tasks, task, "c")
            await server.call("SADD", KEYS.tasks_item("c"), task)
        here.states.update(running="running", ended="done")
        assert await here.records.list_all() == ["running"]
        assert await here.records.list_item("c") == ["running"]
        assert await server.call("HLEN", KEYS.tasks) == 3
