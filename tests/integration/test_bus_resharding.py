"""A slot on its way to another primary: commands follow it, and nothing else is disturbed."""

from __future__ import annotations

from bus_cluster import SHARDS, ClusterSet, set_epoch
from bus_servers import HOST, Server, until
from redis.crc import key_slot

from runtime.redis.client import RedisClient
from runtime.redis.cluster import Cluster
from runtime.redis.factory import topology_from
from runtime.settings import load_settings

KEY, NEW_KEY = "{moving}:old", "{moving}:new"
SLOT = key_slot(KEY.encode())


class Move:
    """The slot of KEY and where it goes, step by step."""

    def __init__(self, cluster: ClusterSet) -> None:
        self.primaries = cluster.nodes[:3]
        self.source = cluster.primary_of(KEY)
        self.target = next(node for node in self.primaries if node is not self.source)

    async def open(self) -> None:
        """Begin: the target imports, the source answers ASK for what it does not have."""
        await self._set(self.target, "IMPORTING", self.source)
        await self._set(self.source, "MIGRATING", self.target)

    async def carry(self, key: str) -> None:
        """Move one key."""
        await self.source.call("MIGRATE", HOST, self.target.port, key, 0, 1000)

    async def close(self) -> None:
        """End: the target owns the slot."""
        for node in (self.target, *self.primaries):
            await self._set(node, "NODE", self.target)

    async def _set(self, node: Server, what: str, other: Server) -> None:
        identity = await other.call("CLUSTER", "MYID")
        await node.call("CLUSTER", "SETSLOT", SLOT, what, identity)


async def test_commands_follow_a_slot_that_moves(cluster: ClusterSet) -> None:
    """Through ASK and MOVED each command is done once, and calls to other slots go on."""
    settings = cluster.settings()
    topology = topology_from(settings)
    client = RedisClient(topology, settings)
    move = Move(cluster)
    counts = []

    async def count(key: str) -> None:  # not idempotent, so it is not simply tried again
        counts.append(await client.run(lambda redis: redis.incr(key)))

    others = [("SET", f"k{n}", n) for n in range(30)]
    await client.pipeline(others)
    await count(KEY)
    connections = client.connections
    await move.open()
    await count(KEY)  # the source still has it
    await count(NEW_KEY)  # the source has it not: ASK
    await move.carry(KEY)
    await count(KEY)  # ASK
    words = [("INCR", KEY), ("GET", NEW_KEY), ("GET", "k1")]
    assert await client.pipeline(words, idempotent=False) == [4, "1", "1"]
    await move.close()
    await count(KEY)  # MOVED, or known already
    assert counts == [1, 2, 1, 3, 5]
    await until(lambda: topology.current(KEY) == (HOST, move.target.port))
    assert await client.pipeline(others) == [True] * 30
    assert client.connections == connections  # nobody was disconnected
    await client.close()
    await topology.close()


async def test_a_server_that_gives_a_slot_away_keeps_its_calls(cluster: ClusterSet) -> None:
    """A call that waits at the old owner for another slot is not cut when the map changes."""
    settings = cluster.settings()
    topology = topology_from(settings)
    client = RedisClient(topology, settings)
    move = Move(cluster)
    other = next(f"k{n}" for n in range(1000) if cluster.primary_of(f"k{n}") is move.source)
    await client.run(lambda redis: redis.set(other, "1"))
    before = await move.source.call("CLIENT", "LIST", "TYPE", "normal")
    await move.open()
    await move.close()
    await until(lambda: topology.current(KEY) == (HOST, move.target.port))
    await client.run(lambda redis: redis.get(other))
    after = await move.source.call("CLIENT", "LIST", "TYPE", "normal")
    assert _named(before) == _named(after)
    assert _named(before)
    await client.close()
    await topology.close()


async def test_a_node_that_left_the_cluster_is_asked_no_more(cluster: ClusterSet) -> None:
    """A node that was taken out, as `del-node` does, knows of itself alone; others know more."""
    leaver, move = cluster.nodes[3], Move(cluster)
    environment = {"REDIS_URL": leaver.url, "REDIS_CLUSTER": "true"}
    topology = topology_from(load_settings(environment))
    assert topology
    await topology.locate(KEY)  # the only address that is configured is asked first
    identity = await leaver.call("CLUSTER", "MYID")
    for node in move.primaries:
        await node.call("CLUSTER", "FORGET", identity)
    await leaver.call("CLUSTER", "RESET", "SOFT")
    await move.open()
    await move.close()
    await until(lambda: topology.current(KEY) == (HOST, move.target.port))
    await topology.close()


async def test_a_cluster_that_was_made_anew_is_believed(cluster: ClusterSet) -> None:
    """All nodes lost their configuration: the new one counts its epochs from the start again."""
    primaries = cluster.nodes[:3]
    topology = topology_from(cluster.settings())
    assert isinstance(topology, Cluster)
    await topology.locate(KEY)

    async def old() -> bool:
        """Raise the epochs, of which a node keeps one that is the highest that it knows."""
        for node in primaries:
            await node.call("CLUSTER", "BUMPEPOCH")
        return all(o and o.epoch > len(primaries) for o in topology._map.owners)

    await until(old)
    for node in cluster.nodes:
        await node.call("FLUSHALL") if node in primaries else None
        await node.call("CLUSTER", "RESET", "HARD")
    turned = [*primaries[1:], primaries[0]]
    for number, (node, (first, last)) in enumerate(zip(turned, SHARDS, strict=True), 1):
        await node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        await set_epoch(node, number)
    for node, bus in zip(cluster.nodes[1:], cluster.buses[1:], strict=True):
        await cluster.nodes[0].call("CLUSTER", "MEET", HOST, node.port, bus)
    owner = turned[primaries.index(cluster.primary_of(KEY))]
    await until(lambda: topology.current(KEY) == (HOST, owner.port))
    await topology.close()


def _named(clients: str) -> set[str]:
    """Return id and address of the connections that carry commands."""
    return {line.partition(" laddr")[0] for line in clients.splitlines() if ":commands " in line}
