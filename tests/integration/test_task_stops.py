"""The intents of stops on a real server: settled ones leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from bus_servers import Server, topology_of
from redis.asyncio import Redis

from harness.waiting import wait_for
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.supervision import Supervisor
from runtime.tasks.stops import CANCELLED, INTENT_LIFE_S, REQUESTED, StopIntents

KEYS = Keys("test")
STOP = {"action": "stop", "task_id": "t"}
STOPPED = {"action": "stopped", "task_id": "t", "state": CANCELLED}


class Workers:
    """One that takes the stop of task "t" and one that owns it; messages are given by hand."""

    def __init__(self, server: Server) -> None:
        self.topology = topology_of(server.url)
        self.client = RedisClient(self.topology, load_settings({"REDIS_URL": server.url}))
        self.probe = Redis.from_url(server.url, decode_responses=True)
        self.acker, self.owner = (StopIntents(self.client, KEYS, self._kept) for _ in range(2))
        self.owner.cancel = lambda _: CANCELLED
        self.kept: list[str] = []
        self.supervisor = Supervisor()

    async def _kept(self, task_id: str) -> None:
        self.kept.append(task_id)

    def start(self) -> None:
        """Begin to answer."""
        self.supervisor.run("acker", self.acker.answer_forever)
        self.supervisor.run("owner", self.owner.answer_forever)

    async def stop(self) -> None:
        """Close everything."""
        await self.supervisor.stop()
        await self.probe.aclose()
        await self.client.close()
        await self.topology.close()

    async def is_in(self, state: str) -> bool:
        """Tell whether this is the stop's state in Redis, "" when there is none."""
        field = await self.probe.hget(KEYS.task_stops, "t")
        return str(field or "").partition("|")[0] == state

    async def confirmed(self) -> None:
        """Let the owner execute the stop, and the acker hear it."""
        self.owner.on_message(STOP)
        await wait_for(lambda: self.is_in(CANCELLED), 3, "confirmed")
        self.acker.on_message(STOPPED)


@pytest.fixture
async def workers(server: Server) -> AsyncIterator[Workers]:
    """Give the two workers, answering."""
    found = Workers(server)
    found.start()
    yield found
    await found.stop()


async def test_an_owner_that_confirms_twice_leaves_no_intent(workers: Workers) -> None:
    """The owner read the intent before its first answer: the second writes nothing back."""
    assert await workers.acker.request("t") == REQUESTED
    assert workers.kept == ["t"]
    await workers.confirmed()
    await wait_for(lambda: workers.is_in(""), 3, "removed")
    async with workers.probe.pubsub() as heard:
        await heard.subscribe(KEYS.task_commands)
        await heard.get_message(timeout=3)  # the subscription itself
        workers.owner.on_message(STOP)
        assert await heard.get_message(timeout=3)  # published behind the second confirmation
    assert await workers.is_in("")


async def test_an_intent_that_redis_could_not_remove_is_removed_later(
    workers: Workers, server: Server
) -> None:
    """The confirmation was heard, then Redis was away: what it still holds then is removed."""
    await workers.acker.request("t")
    server.kill()
    workers.acker.on_message(STOPPED)
    await wait_for(lambda: workers.acker.pending == 0, 1, "settled")
    server.start()
    await server.ready()
    await workers.probe.hset(KEYS.task_stops, "t", f"{CANCELLED}|0")
    await wait_for(lambda: workers.is_in(""), 10, "removed")


async def test_an_intent_ages_by_the_watch_of_who_removes_it(workers: Workers) -> None:
    """Clocks of workers differ: a stop from one that is behind is not old, nor ever young."""
    for ahead_s in (-3600, 3600):
        await workers.probe.hset(KEYS.task_stops, "t", f"{REQUESTED}|{time.time() + ahead_s:.3f}")
        await workers.acker.reconcile()
        assert await workers.is_in(REQUESTED)
        value, since = workers.acker._seen["t"]
        workers.acker._seen["t"] = (value, since - INTENT_LIFE_S - 1)  # so long ago
        await workers.acker.reconcile()
        assert await workers.is_in("")
