"""Tasks of three workers on standalone, Sentinel and Cluster: listed, stopped, reaped, resumed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from bus_cluster import ClusterSet
from bus_servers import SentinelSet, Server, serving

from harness.waiting import wait_for
from runtime.settings import Settings
from tests.integration.app_deployment import Deployment, User, deployment
from tests.integration.resuming_client import ResumingClient

P = "open-webui"
DEAD_WITHIN_S = 20.0


@dataclass
class Parts:
    """Three workers and the servers that they use."""

    app: Deployment
    primaries: list[Server]

    async def flush(self) -> None:
        """Lose all data of Redis."""
        for server in self.primaries:
            await server.call("FLUSHALL")

    async def keys(self, pattern: str) -> list[str]:
        """Return the keys on all primaries that match."""
        found = [await server.call("KEYS", pattern) for server in self.primaries]
        return sorted(key for keys in found for key in keys)


@asynccontextmanager
async def servers(
    topology: str, folder: Path
) -> AsyncIterator[tuple[dict[str, str], list[Server]]]:
    """Run a topology; give a worker's environment, and the primaries."""
    if topology == "standalone":
        async with serving(folder) as server:
            yield {"REDIS_URL": server.url}, [server]
        return
    found = SentinelSet(folder) if topology == "sentinel" else ClusterSet(folder)
    try:
        await found.start()
        some = found.nodes[:1] if topology == "sentinel" else found.nodes[:3]
        yield environment(found.settings()), some
    finally:
        for server in (*found.nodes, *([found.sentinel] if topology == "sentinel" else [])):
            server.kill()


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that lead a worker to the same servers."""
    return {
        "REDIS_URL": settings.redis_url,
        "REDIS_SENTINEL_HOSTS": settings.redis_sentinel_hosts,
        "REDIS_CLUSTER": str(settings.redis_cluster).lower(),
    }


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["standalone", "sentinel", "cluster"]
)
async def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Parts]:
    """Yield three workers on one topology for all tests."""
    folder = tmp_path_factory.mktemp(request.param)
    async with (
        servers(request.param, folder) as (env, primaries),
        deployment(with_redis=False, workers=3, environ=env) as app,
    ):
        yield Parts(app, primaries)


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(user: User, chat: str, worker: int) -> Any:
    """Return the ids that a worker lists for a chat."""
    return (await user.call("GET", f"/api/tasks/chat/{chat}", worker))[1].get("task_ids")


async def unlisted_everywhere(user: User, chat: str) -> bool:
    """Tell whether no worker lists a task of the chat."""
    return [await listed(user, chat, worker) for worker in range(3)] == [[]] * 3


async def closed(app: Deployment, stream: str, seconds: float = 3) -> None:
    """Wait until the provider saw the stream end."""
    await wait_for(lambda: stream in app.provider.closed, seconds, f"{stream} closed")


async def test_every_worker_lists_and_stops_by_id_and_by_chat(parts: Parts) -> None:
    """A task is known to all workers; a stop by id or by chat from any of them ends it."""
    app = parts.app
    user = await app.user()
    for worker, path in ((0, "/api/tasks/stop/{task}"), (1, "/api/tasks/chat/{chat}/stop")):
        chat, task = await user.chat(f"by-{worker}-{parts.primaries[0].port}", 2)
        assert [await listed(user, chat, w) for w in range(3)] == [[task]] * 3
        answer = await user.call("POST", path.format(task=task, chat=chat), worker)
        assert answer[1]["state"] in ("cancelled", "requested")
        await closed(app, f"by-{worker}-{parts.primaries[0].port}")
        await wait_for(lambda c=chat: unlisted_everywhere(user, c), 3, "unlisted")
    await wait_for(lambda: nothing_left(parts), 3, "keys gone")


async def nothing_left(parts: Parts) -> bool:
    """Tell whether no key of a task is left."""
    return await parts.keys(f"{P}:tasks*") == []


async def test_keys_and_channel_are_those_of_upstream(parts: Parts) -> None:
    """A task has its marker, its place in the hash and its item's set; a plain message stops it."""
    user = await parts.app.user()
    stream = f"plain-{parts.primaries[0].port}"
    chat, task = await user.chat(stream, 1)
    log = f"{P}:tasks:response_streams:{task}"
    wanted = sorted([f"{P}:tasks", f"{P}:tasks:{task}", f"{P}:tasks:item:{chat}", log])

    async def all_there() -> bool:
        return await parts.keys(f"{P}:tasks*") == wanted

    await wait_for(all_there, 3, "four keys")
    message = json.dumps({"action": "stop", "task_id": task})
    await parts.primaries[0].call("PUBLISH", f"{P}:tasks:commands", message)
    await closed(parts.app, stream)

    async def all_gone() -> bool:
        return await parts.keys(f"{P}:tasks*") == []

    await wait_for(all_gone, 3, "no key left")


async def test_lost_data_is_written_again_and_stops_work(parts: Parts) -> None:
    """After FLUSHALL a running task is listed again by all, and stopped by chat."""
    user = await parts.app.user()
    stream = f"flushed-{parts.primaries[0].port}"
    chat, task = await user.chat(stream, 0)
    await parts.flush()

    async def listed_again() -> bool:
        return [await listed(user, chat, worker) for worker in range(3)] == [[task]] * 3

    await wait_for(listed_again, 5, "listed again")
    await user.call("POST", f"/api/tasks/chat/{chat}/stop", 1)
    await closed(parts.app, stream)


async def test_answer_is_resumed_on_another_worker(parts: Parts) -> None:
    """A client that leaves in the middle and comes back elsewhere has the whole text, in order."""
    user = await parts.app.user()
    client = ResumingClient(user)
    await client.connect(0)
    stream = f"resumed-{parts.primaries[0].port}"
    chat, _ = await user.chat(stream, 1, tokens=60)
    await wait_for(lambda: client.sequence >= 5, 3, "some pieces")
    await client.leave()

    async def missed() -> bool:  # pieces that nobody hears
        return bool((await client.fetch(chat, 0))["sequence_number"] > client.sequence + 8)

    await wait_for(missed, 3, "pieces missed")
    assert not client.done
    await client.connect(2)
    await client.resume(chat, 2)
    await wait_for(lambda: client.done, 6, "told the end")
    assert client.text == client.told == "".join(f"t{n} " for n in range(60))
    stored = await client.fetch(chat, 0)
    assert (stored["content"], stored["done"]) == (client.text, True)
    await client.leave()


# A death is seen in the database; behind Sentinel the records go to one primary as on standalone.
@pytest.mark.parametrize("parts", ["standalone", "cluster"], indirect=True)
async def test_tasks_of_a_killed_worker_are_ended_by_the_others(parts: Parts) -> None:
    """After SIGKILL of the owner its tasks leave the lists, users are told, the text is kept."""
    app = parts.app
    user = await app.user()
    await user.connect(0)
    orphan, other = f"orphan-{parts.primaries[0].port}", f"other-{parts.primaries[0].port}"
    chat, task = await user.chat(orphan, 2)
    kept, kept_task = await user.chat(other, 1)
    await wait_for(lambda: "t9 " in user.text(), 4, "some pieces")
    await app.workers[2].stop(kill=True)
    try:
        end = ["chat:message:error", "chat:active"]
        await wait_for(lambda: told(user, chat)[-2:] == end, DEAD_WITHIN_S, "told")
        message = await ResumingClient(user).fetch(chat, 1)
        assert (message["done"], message["state"]) == (True, "interrupted")
        assert message["content"].startswith("t0 t1 t2 t3 ")  # but for the last tenth of a second
        await wait_for(lambda: two_list(user, chat, []), 3, "unlisted")
        assert await two_list(user, kept, [kept_task])
        state = (await user.call("POST", f"/api/tasks/stop/{task}", 0))[1]["state"]
        assert state == "finished"
    finally:
        await app.workers[2].start()
        await app.ready()
    await user.call("POST", f"/api/tasks/chat/{kept}/stop", 2)
    await closed(app, other)
    await wait_for(lambda: nothing_left(parts), 3, "keys gone")
    await user.leave()


def told(user: User, chat: str) -> list[str]:
    """Return the types of the events of a chat."""
    return [event["data"]["type"] for event in user.events if event["chat_id"] == chat]


async def two_list(user: User, chat: str, ids: list[str]) -> bool:
    """Tell whether both survivors list exactly these tasks."""
    return [await listed(user, chat, worker) for worker in (0, 1)] == [ids] * 2
