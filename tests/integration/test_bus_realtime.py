"""Socket.IO servers with real sockets, two workers, real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from bus_servers import Server, serving, until
from socket_workers import KEYS, Worker, running

from runtime.realtime import admission
from runtime.redis.inbox import Gap


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """Give a server."""
    async with serving(tmp_path) as server:
        yield server


@pytest.fixture
async def workers(redis: Server, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    """Give two workers that hear each other."""
    async with running(tmp_path, {"REDIS_URL": redis.url}) as workers:
        yield workers


def event(n: int) -> dict[str, Any]:
    """Return a payload as the application sends it."""
    return {"chat_id": "c", "message_id": "m", "data": {"type": "x", "data": n}}


async def test_events_cross_workers_once_and_in_order(workers: list[Worker]) -> None:
    """A user's sockets on both workers get each event once, and another user's none."""
    here, heard_here, joined = await workers[0].connect("ann/t1")
    there, heard_there, _ = await workers[1].connect("ann/t2")
    other, heard_other, _ = await workers[1].connect("bob/t3")
    assert joined == {"id": "ann", "name": "Ann"}
    expected = [event(n) for n in range(200)]
    for payload in expected:
        await workers[0].sockets.emit_to_user("ann", payload)
    await until(lambda: len(heard_there) == len(heard_here) == 200)
    assert heard_here == heard_there == expected
    assert heard_other == []
    for client in (here, there, other):
        await client.disconnect()


async def test_an_outage_delays_events_and_loses_none(workers: list[Worker], redis: Server) -> None:
    """What is emitted while Redis is away arrives afterwards; joining needs no Redis."""
    there, heard, _ = await workers[1].connect("ann/t2")
    redis.kill()
    await until(lambda: not workers[0].manager.caught_up)
    for n in range(50):
        await workers[0].sockets.emit_to_user("ann", event(n))
    late, _, joined = await workers[0].connect("eve/t9")
    assert joined == {"id": "eve", "name": "Eve"}
    redis.start()
    await until(lambda: len(heard) == 50)
    assert heard == [event(n) for n in range(50)]
    for client in (there, late):
        await client.disconnect()


async def test_sockets_of_a_revoked_token_are_closed_and_no_others(workers: list[Worker]) -> None:
    """A worker that hears of a revocation closes that token's sockets, when it really is void."""
    clients = [
        (await workers[n].connect(token))[0]
        for n, token in [(0, "ann/gone"), (1, "ann/gone"), (1, "ann/kept")]
    ]
    for revoked in (set(), {"gone"}):
        for worker in workers:
            worker.tokens.revoked.update(revoked)
        for worker in workers:
            await worker.sockets.recheck_room("token:gone")
            await worker.sockets.recheck_room("token:kept")
        assert clients[2].connected
    await until(lambda: [client.connected for client in clients] == [False, False, True])
    await clients[2].disconnect()


async def test_the_pool_follows_sockets_and_lost_data(workers: list[Worker], redis: Server) -> None:
    """The hash holds who is connected, also after Redis lost it, and nothing when they left."""
    client, _, _ = await workers[0].connect("ann/t1")

    async def pool() -> list[dict[str, Any]]:
        fields = await redis.call("HVALS", KEYS.session_pool)
        return [orjson.loads(text) for text in fields]

    await until(pool)
    (record,) = await pool()
    assert record.pop("last_seen_at") > 0
    assert record.pop("rooms") == []
    assert record == {"id": "ann", "name": "Ann", "role": "user", "instance": "w0"}
    await redis.call("FLUSHALL")
    await client.emit("heartbeat", {})
    await until(pool)
    await client.disconnect()
    await until(lambda: _is_empty(pool))


async def _is_empty(pool: Callable[[], Any]) -> bool:
    return await pool() == []


async def test_lost_events_are_told(workers: list[Worker]) -> None:
    """When a gap cannot be closed, every socket of the worker is told to resync."""
    client, heard, _ = await workers[0].connect("ann/t1")
    workers[0].manager._on_gap(Gap(b"w1", 3, 9))
    await until(lambda: heard == [{"data": {"type": "resync"}}])
    assert workers[0].manager.status()["resync_hints"] == 1
    await client.disconnect()


async def test_anonymous_sockets_are_closed(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket with a bad token connects, joins nothing, and is closed after a while."""
    monkeypatch.setattr(admission, "ANONYMOUS_S", 0.1)
    client, _, joined = await workers[0].connect("nonsense")
    assert joined is None
    await until(lambda: not client.connected)
