"""Cluster mode on a real cluster of three primaries and one replica."""

from __future__ import annotations

import asyncio
import signal

import pytest
from bus_cluster import KEYS, ClusterSet
from bus_servers import HOST, until

from runtime.redis.client import RedisClient
from runtime.redis.cluster import Cluster
from runtime.redis.errors import RedisUnavailable
from runtime.redis.eventlog import EventLog
from runtime.redis.factory import topology_from
from runtime.settings import load_settings


async def test_pipelines_cross_slots(cluster: ClusterSet) -> None:
    """Each command finds its node, and the answers come in the order of the commands."""
    settings = cluster.settings()
    topology = topology_from(settings)
    assert isinstance(topology, Cluster)
    client = RedisClient(topology, settings)
    keys = [f"k{n}" for n in range(30)]
    assert await client.pipeline([("SET", key, key) for key in keys]) == [True] * 30
    assert await client.pipeline([("GET", key) for key in keys]) == keys
    assert len({topology.current(key) for key in keys}) == 3
    await client.close()
    await topology.close()


async def test_events_survive_a_failover(cluster: ClusterSet) -> None:
    """Killing the events' primary loses and repeats no event; commands go to its heir."""
    settings = cluster.settings()
    topologies = [topology_from(settings) for _ in range(2)]
    heard: list[bytes] = []
    assert topologies[0]
    assert isinstance(topologies[1], Cluster)
    client = RedisClient(topologies[0], settings)
    sender = EventLog(topologies[0], KEYS, "a", deliver=lambda *_: None)
    reader = EventLog(topologies[1], KEYS, "b", deliver=lambda _, payload: heard.append(payload))
    for log in (sender, reader):
        log.start()
    await until(lambda: sender.caught_up and reader.caught_up)
    sent = 0
    killed = False
    while not (killed and heard[-1:] == [str(sent).encode()]):
        sent += 1
        sender.publish("", str(sent).encode())
        await asyncio.sleep(0.005)
        if sent == 50:
            cluster.events_primary.kill()
        replica = (HOST, cluster.nodes[3].port)
        killed = killed or topologies[1].current(KEYS.events) == replica
        if killed:
            await until(lambda: len(heard) >= sent)  # noqa: B023 - called in this turn
        assert sent < 2000, "no failover"
    assert heard == [str(n).encode() for n in range(1, sent + 1)]
    await until(lambda: client.run(lambda r: r.set(KEYS.events + "x", "1")))
    for log in (sender, reader):
        await log.stop()
    await client.close()
    for topology in topologies:
        await topology.close()


async def test_one_address_is_enough(cluster: ClusterSet) -> None:
    """From one address, as a managed service gives it; also when that node is gone for good."""
    endpoint = cluster.events_primary
    settings = load_settings({"REDIS_URL": endpoint.url, "REDIS_CLUSTER": "true"})
    topology = topology_from(settings)
    assert isinstance(topology, Cluster)
    client = RedisClient(topology, settings)
    words = [("SET", f"k{n}", n) for n in range(30)]
    assert await client.pipeline(words) == [True] * 30
    assert len({topology.current(key) for _, key, _ in words}) == 3
    endpoint.kill()  # its replica takes over, which only the other nodes can tell

    async def written() -> bool:
        return await client.pipeline(words) == [True] * 30

    await until(written)
    assert (HOST, cluster.nodes[3].port) in topology.primaries()
    await client.close()
    await topology.close()


async def test_a_shard_that_hangs_is_known_while_others_answer(cluster: ClusterSet) -> None:
    """One call waits in vain; that others are answered elsewhere says nothing of its shard."""
    settings = cluster.settings()
    topology = topology_from(settings)
    assert topology
    client = RedisClient(topology, settings)
    keys = {cluster.primary_of(f"k{n}"): f"k{n}" for n in range(30)}
    del keys[cluster.events_primary]  # it has a replica that would take over
    (hung, key), (_, other) = keys.items()
    await client.pipeline([("SET", key, 1), ("SET", other, 1)])
    hung.signal(signal.SIGSTOP)
    call = asyncio.create_task(client.run(lambda redis: redis.get(key)))
    while not call.done():
        assert await client.run(lambda redis: redis.get(other)) == "1"
    with pytest.raises(RedisUnavailable):
        await call
    assert client.breakers[topology.shard(key)].is_open
    assert not client.breakers[topology.shard(other)].is_open
    hung.signal(signal.SIGCONT)
    await until(lambda: client.available)
    await client.close()
    await topology.close()
