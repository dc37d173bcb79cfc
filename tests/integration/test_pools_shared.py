"""Shared maps, usage and the session pool, alone and on each kind of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bus_servers import until
from pool_backends import KINDS, Backend, backend_of

from runtime.realtime.leader import Deposed
from runtime.realtime.pools import shared_map
from runtime.realtime.session_pool import SessionPool
from runtime.realtime.session_reaper import SessionReaper
from runtime.realtime.usage import MODELS_PER_SOCKET, UsagePool
from runtime.redis.client import RedisClient
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.supervision import Supervisor

KEYS = Keys("test")
SHARED = [kind for kind in KINDS if kind != "alone"]


@pytest.fixture
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """Give the kind that the test names."""
    async with backend_of(request.param, tmp_path) as found:
        yield found


@asynccontextmanager
async def clients_of(backend: Backend, count: int = 2) -> AsyncIterator[list[RedisClient | None]]:
    """Give what so many workers would use; one alone has no client."""
    if backend.kind == "alone":
        yield [None] * count
        return
    settings = load_settings(backend.environ)
    topologies = [topology_from(settings) for _ in range(count)]
    clients = [RedisClient(topology, settings) for topology in topologies if topology]
    yield list(clients)
    for client in clients:
        await client.close()
        await client.topology.close()


@pytest.mark.parametrize("backend", KINDS, indirect=True)
async def test_a_map_does_what_a_dict_does(backend: Backend) -> None:
    """Values come back as they were, from any worker."""
    async with clients_of(backend) as clients:
        one = shared_map(clients[0], KEYS.models)
        other = one if clients[0] is None else shared_map(clients[1], KEYS.models)
        await one.set("a", {"n": [1, None, "é"]})
        assert await other.get("a") == {"n": [1, None, "é"]}
        assert await other.get("b", 5) == 5
        assert await other.setdefault("a", 1) == {"n": [1, None, "é"]}
        assert await other.setdefault("b", 2) == 2
        await one.update({"c": 3, "d": 4})
        await one.update({})
        assert await other.length() == 4
        assert (await other.contains("c"), await other.contains("x")) == (True, False)
        assert await other.delete("c", "x") == 1
        await other.replace({"z": {"id": "z"}})
        assert await one.items() == {"z": {"id": "z"}}
        await one.replace({})
        assert await other.items() == {}


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_interleaved_writers_leave_one_complete_version(backend: Backend) -> None:
    """However two workers' rewrites and a reader interleave, no mixture is ever seen."""
    versions = [{f"m{v}-{n}": v for n in range(3000)} for v in range(2)]
    seen = []
    async with clients_of(backend) as clients:
        maps = [shared_map(client, KEYS.models) for client in clients]

        async def write(place: int) -> None:
            for _ in range(8):
                await maps[place].replace(versions[place])

        async def read() -> None:
            seen.extend([await maps[0].items() for _ in range(8)])

        await maps[0].replace(versions[0])
        await asyncio.gather(write(0), write(1), read())
        seen.append(await maps[1].items())
    assert all(found in versions for found in seen)


@pytest.mark.parametrize("backend", KINDS, indirect=True)
async def test_usage_is_what_live_sockets_say(backend: Backend) -> None:
    """A model is in use while one socket on any worker uses it; no update is lost."""
    async with clients_of(backend) as clients:
        pools = [UsagePool(client, KEYS) for client in clients]
        if backend.kind == "alone":
            pools = pools[:1] * 2
        for n in range(40):  # both workers write the same model at the same time
            assert pools[n % 2].use(f"s{n}", "llama")
        assert pools[1].use("s1", "gpt")
        await asyncio.gather(*(pool.flush() for pool in pools))
        for n in range(39):
            pools[n % 2].remove(f"s{n}")
        await asyncio.gather(*(pool.flush() for pool in pools))
        assert await pools[0].models() == ["llama"]
        pools[1].remove("s39")
        await pools[1].flush()
        assert await pools[0].models() == []


@pytest.mark.parametrize("backend", KINDS, indirect=True)
async def test_forgotten_usage_ends(backend: Backend) -> None:
    """What a dead worker left is not in use after the timeout, and the leader removes it."""
    async with clients_of(backend) as clients:
        pool = UsagePool(clients[0], KEYS, timeout_s=1)
        pool.use("s", "llama")
        await pool.flush()
        fresh = UsagePool(clients[1], KEYS, timeout_s=1) if clients[1] else pool
        assert await fresh.models() == ["llama"]

        async def cleaned() -> bool:
            await fresh.clean(fence=7)
            return not [key for key in await backend.keys() if "model:" in key]

        await until(cleaned)
        assert await until(lambda: _none(fresh))
        if clients[0]:
            pool.use("s", "llama")
            await pool.flush()
            with pytest.raises(Deposed):
                await pool.clean(fence=6)


async def _none(pool: UsagePool) -> bool:
    return await pool.models() == []


def test_a_socket_cannot_name_too_much() -> None:
    """Long names and many models are refused; known ones may be said again."""
    pool = UsagePool(None, KEYS)
    assert not pool.use("s", "x" * 257)
    assert not pool.use("s", "")
    assert all(pool.use("s", f"m{n}") for n in range(MODELS_PER_SOCKET))
    assert not pool.use("s", "one more")
    assert pool.use("s", "m0")


BOTH = {"ann": "Ann", "bob": "Bob"}


@asynccontextmanager
async def mirrored(backend: Backend) -> AsyncIterator[list[SessionPool]]:
    """Give two workers' pools, Ann's socket s0 and Bob's s1 in one chat; nothing may be left."""
    async with clients_of(backend) as clients:
        pools = [SessionPool(client, KEYS, f"w{n}") for n, client in enumerate(clients)]
        if backend.kind == "alone":
            pools = pools[:1] * 2
        supervisor = Supervisor()
        for pool in {id(pool): pool for pool in pools}.values():
            pool.start(supervisor)
        for pool, sid, user in zip(pools, ("s0", "s1"), BOTH, strict=True):
            pool.add(sid, user, BOTH[user], "user")
            pool.enter(sid, "chat:c")
        for pool in pools:
            await until(lambda pool=pool: _users(pool, "chat:c", BOTH))
        yield pools
        for pool in pools:
            await pool.stop()
        await supervisor.stop()
        assert await backend.keys() == set()


@pytest.mark.parametrize("backend", KINDS, indirect=True)
async def test_indexes_answer_who_is_where(backend: Backend) -> None:
    """Rooms, users and counts are the same from both workers, also after Redis lost them."""
    async with mirrored(backend) as (one, other):
        other.enter("s1", "channel:k")
        await until(lambda: _users(one, "channel:k", {"bob": "Bob"}))
        assert await one.active_among(["ann", "bob", "eve"]) == {"ann", "bob"}
        assert await one.user_count() == 2
        record = await one.get("s1")
        assert record
        assert record["rooms"] == ["channel:k", "chat:c"]
        await backend.flush()
        for pool in (one, other):
            pool.mark_all()  # as the lease loop does when it sees fewer records than it has
        await until(lambda: _users(one, "chat:c", BOTH))
        other.leave("s1", "chat:c")
        await until(lambda: _users(one, "chat:c", {"ann": "Ann"}))
        other.remove("s1")
        await until(lambda: _inactive(one, "bob"))
        assert await one.user_count() == 1


@pytest.mark.parametrize("backend", KINDS, indirect=True)
async def test_a_socket_that_changes_its_user_leaves_no_trace(backend: Backend) -> None:
    """Who signs in as somebody else on the same socket is found as that one only."""
    async with mirrored(backend) as (one, other):
        other.remove("s1")
        other.add("s1", "eve", "Eve", "user")
        await until(lambda: _inactive(one, "bob"))
        await until(lambda: _users(one, "user:eve", {"eve": "Eve"}))
        assert await one.users_in("user:bob") == {}
        assert await one.users_in("chat:c") == {"ann": "Ann"}
        other.enter("s1", "chat:c")
        await until(lambda: _users(one, "chat:c", {"ann": "Ann", "eve": "Eve"}))


async def _users(pool: SessionPool, room: str, expected: dict[str, str]) -> bool:
    return await pool.users_in(room) == expected


async def _inactive(pool: SessionPool, user: str) -> bool:
    return not await pool.is_active(user)


@pytest.mark.parametrize("backend", ["standalone"], indirect=True)
async def test_a_write_ends_while_sockets_come_and_go(backend: Backend) -> None:
    """What changes during a write is for the next one, or /ready would starve."""

    async def come_and_go(pool: SessionPool) -> None:
        number = 0
        while True:
            pool.add(f"s{number % 9}", "ann", "Ann", "user")
            pool.remove(f"s{(number - 1) % 9}")
            number += 1
            await asyncio.sleep(0)

    async with clients_of(backend, 1) as (client,):
        pool = SessionPool(client, KEYS, "w0")
        pool.add("first", "ann", "Ann", "user")
        busy = asyncio.create_task(come_and_go(pool))
        async with asyncio.timeout(10):
            await pool._flush()
        busy.cancel()
        assert await pool.get("first")


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_the_reaper_removes_the_dead_and_spares_the_living(backend: Backend) -> None:
    """A worker that says nothing loses its records with all indexes; strange records do no harm."""
    async with clients_of(backend) as clients:
        pools = [SessionPool(c, KEYS, f"w{n}", lease_s=1) for n, c in enumerate(clients)]
        supervisors = [Supervisor(), Supervisor()]
        for pool, supervisor in zip(pools, supervisors, strict=True):
            pool.start(supervisor)
        pools[0].add("s0", "ann", "Ann", "user")
        pools[0].enter("s0", "chat:c")
        pools[1].add("s1", "bob", "Bob", "user")
        await until(lambda: _users(pools[1], "chat:c", {"ann": "Ann"}))
        await supervisors[0].stop()  # w0 is dead: nothing of it is removed by itself
        client = clients[1]
        assert client
        await client.pipeline([("HSET", KEYS.session_pool, "old", "no JSON")])
        reaper, dead = SessionReaper(pools[1]), list[str]()
        reaper.on_dead = dead.append

        async def reaped() -> bool:
            await reaper(fence=5)
            return dead == ["w0"]

        await until(reaped)
        assert await pools[1].get("s0") is None
        assert await pools[1].users_in("chat:c") == {}
        assert await pools[1].is_active("bob")
        assert await pools[1].user_count() == 1
        assert not [key for key in await backend.keys() if key.endswith((":w0", "chat:c"))]
        await pools[1].stop()
        await supervisors[1].stop()


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_a_leader_of_before_reaps_nothing(backend: Backend) -> None:
    """Once a newer fence has cleaned, an older one is refused, whatever it believes."""
    async with clients_of(backend) as clients:
        client = clients[0]
        assert client
        pool = SessionPool(client, KEYS, "w0", lease_s=0.2)
        pool.add("s0", "ann", "Ann", "user")
        await pool._flush()
        await client.pipeline([("SET", KEYS.session_pool_fence, 9)])
        old = SessionReaper(pool)

        async def refused() -> bool:
            try:
                await old(fence=8)
            except Deposed:
                return True
            return False

        await client.pipeline([("ZADD", KEYS.session_pool_seen, 1, "s0")])
        await until(refused)
        assert await SessionPool(client, KEYS, "w1").get("s0")


@asynccontextmanager
async def one_paused(backend: Backend, lease_s: float = 30) -> AsyncIterator[list[SessionPool]]:
    """Give a worker's pool with Ann's s0 in a chat, that stands still, and a busier one's."""
    async with clients_of(backend) as clients:
        pools = [SessionPool(c, KEYS, f"w{n}", lease_s=lease_s) for n, c in enumerate(clients)]
        pools[0].add("s0", "ann", "Ann", "user")
        pools[0].enter("s0", "chat:c")
        for number in range(1, 4):
            pools[1].add(f"s{number}", "bob", "Bob", "user")
        for pool in pools:
            await pool._flush()
            await pool._renew()
        yield pools
        for pool in pools:
            await pool.stop()


async def _dated(pool: SessionPool, second: float) -> None:
    """Date all that the pools wrote, as if it was written at that second of the server's clock."""
    assert pool.client
    seen, instances = KEYS.session_pool_seen, KEYS.session_pool_instances
    rows = [(seen, f"s{n}") for n in range(4)] + [(instances, f"w{n}") for n in range(2)]
    await pool.client.pipeline([("ZADD", key, "XX", second, member) for key, member in rows])


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_a_worker_that_comes_back_while_it_is_buried_is_not_forgotten(
    backend: Backend,
) -> None:
    """It says that it lives after the leader saw it dead, and before the leader acts on that."""
    async with one_paused(backend) as (paused, other):
        reaper, dead = SessionReaper(other), list[str]()
        reaper.on_dead = dead.append
        await reaper(fence=5)
        await paused._renew()
        await reaper._bury(5, "w0")
        assert dead == []
        assert await paused.get("s0")
        assert other.client
        await other.client.pipeline([("ZADD", KEYS.session_pool_instances, 1, "w0")])
        await reaper._bury(5, "w0")
        assert dead == ["w0"]
        assert await other.users_in("chat:c") == {}
        await other.client.pipeline([("SET", KEYS.session_pool_fence, 9)])
        with pytest.raises(Deposed):
            await reaper._bury(5, "w1")


@pytest.mark.parametrize("backend", SHARED, indirect=True)
async def test_a_worker_that_was_buried_alive_is_back_at_once(backend: Backend) -> None:
    """Its records are written again with its next sign of life, however many others there are."""
    async with one_paused(backend) as (paused, other):
        reaper, told = SessionReaper(other), list[set[str]]()
        paused.on_lost = told.append
        await reaper(fence=5)
        await _dated(paused, 1)
        await reaper._bury(5, "w0")
        assert await other.users_in("chat:c") == {}
        supervisor = Supervisor()
        paused.start(supervisor)
        await until(lambda: _users(other, "chat:c", {"ann": "Ann"}))
        assert told[0] == {"user:ann", "chat:c"}
        await supervisor.stop()


@pytest.mark.parametrize("backend", ["standalone"], indirect=True)
async def test_the_dead_of_a_clock_that_was_ahead_go(backend: Backend) -> None:
    """Redis's clock was set back by an hour: what a dead worker left does not live an hour more."""
    async with one_paused(backend, lease_s=1) as (_, other):
        supervisor = Supervisor()
        await _dated(other, time.time() + 3600)
        other.start(supervisor)
        reaper, dead = SessionReaper(other), list[str]()
        reaper.on_dead = dead.append

        async def reaped() -> bool:
            await reaper(fence=5)
            return dead == ["w0"]

        await until(reaped)
        assert await other.users_in("chat:c") == {}
        assert len(await other.users_in("user:bob")) == 1
        await supervisor.stop()


@pytest.mark.parametrize("backend", ["standalone"], indirect=True)
async def test_nobody_is_dead_because_a_clock_was_set(backend: Backend) -> None:
    """Redis's clock was set forward: all look silent, and are written anew before they are dead."""
    async with one_paused(backend) as (paused, other):
        reaper, dead = SessionReaper(other), list[str]()
        reaper.on_dead = dead.append
        await reaper(fence=5)
        reaper._ripe = 0.0  # it has led for long
        hour_ago = int(time.time()) - 3600
        for clock in (reaper.clock, paused.clock, other.clock):
            clock.stepped(hour_ago, time.monotonic())  # what they saw last
        await _dated(other, hour_ago)
        await reaper(fence=5)
        assert await other.get("s0")
        for pool in (paused, other):
            assert await pool._renew()
            pool.mark_all()
            await pool._flush()
        reaper._ripe = 0.0
        await reaper(fence=5)
        assert dead == []
        assert await other.users_in("chat:c") == {"ann": "Ann"}


@pytest.mark.parametrize("backend", ["standalone"], indirect=True)
async def test_usage_of_a_clock_that_was_ahead_ends(backend: Backend) -> None:
    """What a dead worker used is not in use for as long as Redis's clock was set back."""
    async with clients_of(backend) as clients:
        pool, fresh = (UsagePool(client, KEYS, timeout_s=1) for client in clients)
        pool.use("s", "llama")
        await pool.flush()
        assert clients[0]
        ahead = time.time() + 3600
        keys = ((KEYS.usage_pool, "llama"), (KEYS.usage_pool_model("llama"), "s"))
        for key, member in keys:  # ends of keys are of that clock, too
            await clients[0].pipeline([("ZADD", key, ahead, member), ("PERSIST", key)])

        async def cleaned() -> bool:
            await fresh.clean(fence=7)
            return await fresh.models() == []

        await until(cleaned)
