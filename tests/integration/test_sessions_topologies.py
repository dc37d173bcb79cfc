"""Sessions in a real Redis: standalone, Sentinel and Cluster, and what workers do at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from bus_servers import Server, serving
from test_bus_cluster import ClusterSet
from test_rate_limits import cluster, sentinel, standalone

from runtime.accounts.identity import Claims, Identity
from runtime.accounts.sessions import Lifetime, SessionEnded, SharedSessions
from runtime.redis.client import RedisClient
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import Settings, load_settings
from runtime.storage.database import User

SECRET = "0123456789abcdef0123456789abcdef"
KEYS = Keys("test")
HOUR = 3600
ROLLING = Lifetime(HOUR, rolling=True)
ANN = Identity(User("ann", "ann@x.example", "Ann", "user"), Claims("ann", "one", 0, None))
ANN_AGAIN = Identity(ANN.user, Claims("ann", "two", 0, None))


@asynccontextmanager
async def worker(settings: Settings, lifetime: Lifetime = ROLLING) -> AsyncIterator[SharedSessions]:
    """Give the sessions of one worker."""
    topology = topology_from(settings)
    assert topology
    topology.start()
    client = RedisClient(topology, settings)
    try:
        yield SharedSessions(client, KEYS, SECRET, lifetime)
    finally:
        await client.close()
        await topology.close()


def at(server: Server) -> Settings:
    """Return the settings of a worker that uses the server."""
    return load_settings({"REDIS_URL": server.url})


@asynccontextmanager
async def workers(settings: Settings) -> AsyncIterator[tuple[SharedSessions, SharedSessions]]:
    """Give the sessions of two workers."""
    async with worker(settings) as one, worker(settings) as other:
        yield one, other


@pytest.mark.parametrize("topology", [standalone, sentinel, cluster])
async def test_what_one_worker_writes_the_other_reads_until_it_is_removed(
    topology: object, tmp_path: Path
) -> None:
    """Read-your-writes, merging and removal on every topology; only for the same sign-in."""
    assert callable(topology)
    async with topology(tmp_path) as settings, workers(settings) as (one, other):
        first = await one.merge(None, ANN, {"a": 1})
        again = await other.merge(first.cookie, ANN, {"b": 2})
        assert again.cookie == first.cookie
        loaded = await one.load(first.cookie, ANN)
        assert loaded is not None
        assert loaded.data == {"a": 1, "b": 2}
        assert await other.load(first.cookie, ANN_AGAIN) is None
        await other.remove(first.cookie)
        assert await one.load(first.cookie, ANN) is None


async def test_sessions_spread_over_all_primaries_of_a_cluster(tmp_path: Path) -> None:
    """The prefix is no hash tag: every primary holds session keys, and each of them expires."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        async with worker(servers.settings()) as sessions:
            made = [await sessions.merge(None, ANN, {"n": n}) for n in range(40)]
        held = [await node.call("KEYS", "test:session:*") for node in servers.nodes[:3]]
        assert all(held)
        assert sorted(k for keys in held for k in keys) == sorted(KEYS.session(s.id) for s in made)
        lives = [await servers.nodes[0].call("TTL", key) for key in held[0]]
        assert all(0 < life <= HOUR for life in lives)
    finally:
        for node in servers.nodes:
            node.kill()


async def test_concurrent_writers_of_two_workers_lose_nothing(tmp_path: Path) -> None:
    """Four writers at a time, on both workers: every key that was acknowledged is there."""
    async with (
        serving(tmp_path) as server,
        workers(load_settings({"REDIS_URL": server.url})) as two,
    ):
        session = await two[0].merge(None, ANN, {"start": 0})
        for turn in range(20):
            writes = (two[n % 2].merge(session.cookie, ANN, {f"{turn}.{n}": n}) for n in range(4))
            done = await asyncio.gather(*writes, return_exceptions=True)
            acknowledged = {
                f"{turn}.{n}" for n, x in enumerate(done) if not isinstance(x, Exception)
            }
            stored = await two[1].load(session.cookie, ANN)
            assert stored is not None
            assert acknowledged
            assert acknowledged <= stored.data.keys()


async def test_removed_session_is_not_brought_back_by_writers_at_work(tmp_path: Path) -> None:
    """A removal in the midst of writes of two workers wins, each time; the id stays unknown."""
    async with (
        serving(tmp_path) as server,
        workers(load_settings({"REDIS_URL": server.url})) as two,
    ):
        ended = 0
        for turn in range(40):
            session = await two[0].merge(None, ANN, {"turn": turn})
            writes = [two[n % 2].merge(session.cookie, ANN, {f"k{n}": n}) for n in range(6)]
            done = await asyncio.gather(
                *writes[:3],
                two[turn % 2].remove(session.cookie),
                *writes[3:],
                return_exceptions=True,
            )
            ended += sum(isinstance(found, SessionEnded) for found in done)
            assert await two[0].load(session.cookie, ANN) is None
            assert await server.call("EXISTS", KEYS.session(session.id)) == 0
        assert ended  # some writer was overtaken between its reading and its writing


async def test_late_write_of_a_removed_session_changes_nothing(tmp_path: Path) -> None:
    """A write that was held on its way arrives after the removal and is refused."""
    async with (
        serving(tmp_path) as server,
        workers(load_settings({"REDIS_URL": server.url})) as two,
    ):
        session = await two[0].merge(None, ANN, {"a": 1})
        stale = await two[1].load(session.cookie, ANN)
        assert stale is not None
        await two[0].remove(session.cookie)
        assert await two[1]._write(stale, ANN) is False
        assert await two[0].load(session.cookie, ANN) is None


@pytest.mark.parametrize("forge", [lambda s: s.id, lambda s: f"{s.id}.{'x' * 27}", lambda _: "a.b"])
async def test_unsigned_id_is_not_looked_up(forge: object, tmp_path: Path) -> None:
    """Knowing a session's id is not enough; and an id of the client's choice is not adopted."""
    assert callable(forge)
    async with serving(tmp_path) as server, worker(at(server)) as one:
        session = await one.merge(None, ANN, {"a": 1})
        assert await one.load(forge(session), ANN) is None
        fresh = await one.merge(forge(session), ANN, {"b": 2})
        assert fresh.id != session.id
        assert fresh.data == {"b": 2}


async def test_use_prolongs_a_rolling_session_only(tmp_path: Path) -> None:
    """Reading renews the life of a rolling session, and leaves that of another alone."""
    async with serving(tmp_path) as server, AsyncExitStack() as stack:
        for rolling in (True, False):
            lifetime = Lifetime(HOUR, rolling)
            sessions = await stack.enter_async_context(worker(at(server), lifetime))
            session = await sessions.merge(None, ANN, {"a": 1})
            await server.call("EXPIRE", KEYS.session(session.id), 100)
            await sessions.load(session.cookie, ANN)
            assert (await server.call("TTL", KEYS.session(session.id)) > 100) is rolling
