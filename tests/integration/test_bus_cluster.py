"""Cluster mode on a real cluster of three primaries and one replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_servers import HOST, Server, free_port, until
from redis.crc import key_slot

from runtime.redis.client import RedisClient
from runtime.redis.cluster import Cluster
from runtime.redis.eventlog import EventLog
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import Settings, load_settings

KEYS = Keys("test")
SHARDS = ((0, 5460), (5461, 10922), (10923, 16383))


class ClusterSet:
    """Three primaries; the one that serves the events has a replica."""

    def __init__(self, folder: Path) -> None:
        self.buses = [free_port() for _ in range(4)]
        self.nodes = [
            Server(
                folder,
                f"node-{n}",
                *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0"),
                *("--repl-diskless-sync-delay", "0", "--cluster-require-full-coverage", "no"),
                *("--cluster-announce-ip", HOST),
            )
            for n, bus in enumerate(self.buses)
        ]

    @property
    def events_primary(self) -> Server:
        """Return the node that serves the event stream at first."""
        slot = key_slot(KEYS.events.encode())
        return next(n for n, (_, last) in zip(self.nodes, SHARDS, strict=False) if slot <= last)

    async def start(self) -> None:
        """Start, join, assign the slots, attach the replica."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            await node.ready()
        for n, ((first, last), node) in enumerate(zip(SHARDS, self.nodes, strict=False)):
            await node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for node, bus in zip(self.nodes[1:], self.buses[1:], strict=True):
            await self.nodes[0].call("CLUSTER", "MEET", HOST, node.port, bus)
        primary = await self.events_primary.call("CLUSTER", "MYID")
        await until(lambda: self.nodes[3].call("CLUSTER", "REPLICATE", primary))
        await until(self._healthy)

    async def _healthy(self) -> bool:
        replication = await self.nodes[3].call("INFO", "replication")
        states = [await n.call("CLUSTER", "INFO") for n in self.nodes]
        fine = all("cluster_state:ok" in str(state) for state in states)
        return fine and replication["master_link_status"] == "up"

    def settings(self) -> Settings:
        """Return a worker's settings."""
        urls = ",".join(node.url for node in self.nodes[:3])
        return load_settings({"REDIS_URL": urls, "REDIS_CLUSTER": "true"})


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterSet]:
    """Give a healthy cluster."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        yield servers
    finally:
        for node in servers.nodes:
            node.kill()


async def test_pipelines_cross_slots_and_events_survive_a_failover(cluster: ClusterSet) -> None:
    """Commands find their nodes; killing the events' primary loses and repeats no event."""
    settings = cluster.settings()
    topologies = [topology_from(settings) for _ in range(2)]
    heard: list[bytes] = []
    assert isinstance(topologies[0], Cluster)
    assert topologies[1]
    client = RedisClient(topologies[0], settings)
    keys = [f"k{n}" for n in range(30)]
    assert await client.pipeline([("SET", key, key) for key in keys]) == [True] * 30
    assert await client.pipeline([("GET", key) for key in keys]) == keys
    assert len({topologies[0].current(key) for key in keys}) == 3

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
