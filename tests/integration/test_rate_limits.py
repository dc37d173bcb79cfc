"""Rate limits of several workers on real servers: exact, through outages and failovers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bus_cluster import ClusterSet
from bus_servers import HOST, SentinelSet, Server, serving, topology_of, until

from runtime.limits.rate_limit import RateLimit
from runtime.limits.window import Window
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.settings import Settings, load_settings

KEYS = Keys("test")
LONG = Window(15, 180_000, 60_000)


@asynccontextmanager
async def limits(
    settings: Settings, count: int = 3, window: Window = LONG
) -> AsyncIterator[list[RateLimit]]:
    """Give the same limit as `count` workers have it, each with a client of its own."""
    topologies = [topology_of(settings) for _ in range(count)]
    clients = [RedisClient(topology, settings) for topology in topologies]
    try:
        yield [
            RateLimit(client, KEYS, "signin", window, instance=f"w{n}", secret="s")
            for n, client in enumerate(clients)
        ]
    finally:
        for client, topology in zip(clients, topologies, strict=True):
            await client.close()
            await topology.close()


async def burst(workers: list[RateLimit], attempts: int, *who: str) -> int:
    """Return how many of so many simultaneous attempts were admitted."""
    turns = (workers[n % len(workers)].take(*who) for n in range(attempts))
    return sum(decision.admitted for decision in await asyncio.gather(*turns))


@asynccontextmanager
async def standalone(folder: Path) -> AsyncIterator[Settings]:
    """Run one server."""
    async with serving(folder) as server:
        yield load_settings({"REDIS_URL": server.url})


@asynccontextmanager
async def sentinel(folder: Path) -> AsyncIterator[Settings]:
    """Run a primary, a replica and a sentinel."""
    async with running(SentinelSet(folder)) as found:
        yield found.settings()


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Settings]:
    """Run a cluster."""
    found = ClusterSet(folder)
    try:
        await found.start()
        yield found.settings()
    finally:
        for node in found.nodes:
            node.kill()


@asynccontextmanager
async def running(servers: SentinelSet) -> AsyncIterator[SentinelSet]:
    """Start the servers; they are gone afterwards."""
    try:
        await servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.mark.parametrize("topology", [standalone, sentinel, cluster])
async def test_exactly_the_limit_is_admitted_across_workers(
    topology: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 simultaneous attempts on three workers exactly 15 are admitted, for each key."""
    # a starved machine is no outage
    monkeypatch.setattr("runtime.limits.rate_limit.DEADLINE_S", 20)
    async with topology(tmp_path) as found:
        patient = found.model_copy(update={"redis_socket_timeout": 20.0})
        await exactly(patient)


async def exactly(settings: Settings) -> None:
    """Have three workers admit what they may of five keys."""
    async with limits(settings) as workers:
        admitted = await asyncio.gather(*(burst(workers, 100, f"u{n}") for n in range(5)))
        assert admitted == [15] * 5
        assert [w.status()["fallback"] for w in workers] == [False] * 3


async def test_buckets_of_a_key_share_a_slot_and_keys_do_not(tmp_path: Path) -> None:
    """On a cluster the keys spread over all primaries; every bucket expires."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        async with limits(servers.settings(), 1) as (worker,):
            await asyncio.gather(*(worker.take(str(n)) for n in range(60)))
        for node in servers.nodes[:3]:
            keys = await node.call("KEYS", "test:ratelimit:{signin:*}:*")
            lives = [await node.call("PTTL", key) for key in keys]
            assert lives
            assert all(0 < life <= LONG.ttl_ms for life in lives)
    finally:
        for node in servers.nodes:
            node.kill()


async def test_denials_count_nothing_and_say_when_to_come_again(server: Server) -> None:
    """Hammering does not prolong: the wait told first is true, and then an attempt passes."""
    window = Window(2, 600, 200)
    async with limits(load_settings({"REDIS_URL": server.url}), 2, window) as workers:
        assert await burst(workers, 20, "u") == 2
        before = await server.call("KEYS", "*")
        decision = await workers[0].take("u")
        assert (decision.admitted, decision.remaining, decision.retry_after_s) == (False, 0, 1)
        assert await server.call("KEYS", "*") == before
        await until(lambda: _admitted(workers[1], "u"))


async def _admitted(worker: RateLimit, *who: str) -> bool:
    return (await worker.take(*who)).admitted


async def test_outage_is_merged_once_and_forgets_nothing(server: Server) -> None:
    """Counts from before and during an outage with data loss all count after it, once."""
    async with limits(load_settings({"REDIS_URL": server.url}), 2) as (one, two):
        assert await burst([one], 4, "U") == 4
        assert await burst([two], 3, "u") == 3
        server.kill()
        # `one` knows of its own four only, `two` of all seven
        assert await burst([two], 20, "u") == 8
        assert two.status()["fallback"]
        assert await burst([one], 2, "u") == 2
        server.start()
        for worker in (one, two):
            worker.reassert()
            await until(lambda w=worker: _merged(w))
        for worker in (one, two):
            decision = await worker.look("u")
            assert (decision.admitted, decision.remaining) == (False, 0)
        assert [w.status()["fallback"] for w in (one, two)] == [False, False]
        assert await _stored(server) == {"w0": 6, "w1": 11}


async def _merged(worker: RateLimit) -> bool:
    await worker.merge()
    return worker.status()["unmerged"] == 0


async def _stored(server: Server) -> dict[str, int]:
    total: dict[str, int] = {}
    for key in await server.call("KEYS", "test:ratelimit:*"):
        for worker, count in (await server.call("HGETALL", key)).items():
            total[worker] = total.get(worker, 0) + int(count)
    return total


async def test_lost_answers_are_not_counted_twice(server: Server) -> None:
    """An attempt whose answer never came is one attempt, also after it was merged."""
    settings = load_settings({"REDIS_URL": server.url, "REDIS_SOCKET_TIMEOUT": "0.2"})
    async with limits(settings, 1) as (worker,):
        assert await burst([worker], 1, "u") == 1
        server.signal(signal.SIGSTOP)  # takes what it is sent, and answers when it goes on
        assert await burst([worker], 1, "u") == 1
        server.signal(signal.SIGCONT)
        await until(lambda: _merged(worker))
        assert (await worker.look("u")).remaining == 13
        assert await _stored(server) == {"w0": 2}


async def test_failover_keeps_the_count(tmp_path: Path) -> None:
    """After a failover to a replica the workers' own counts still make up the limit."""
    async with running(SentinelSet(tmp_path)) as servers, limits(servers.settings()) as workers:
        assert await burst(workers, 9, "u") == 9
        servers.nodes[0].kill()
        await until(lambda: servers.nodes[1].call("SET", "probe", "1"))
        await until(lambda: _shared(workers))
        assert await burst(workers, 60, "u") == 6


async def _shared(workers: list[RateLimit]) -> bool:
    for worker in workers:
        await worker.look("u")
    return not any(worker.status()["fallback"] for worker in workers)


async def test_servers_clock_decides(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers whose clocks are an hour apart still share one window."""
    async with limits(load_settings({"REDIS_URL": server.url}), 2) as (one, two):
        assert await burst([one], 10, "u") == 10
        real = __import__("time").time_ns
        monkeypatch.setattr("runtime.limits.rate_limit.time.time_ns", lambda: real() + 3600 * 10**9)
        assert await burst([two], 10, "u") == 5
        assert HOST in server.url
