"""A real cluster of three primaries and one replica, for the tests of the runtime's bus."""

from __future__ import annotations

from pathlib import Path

from bus_servers import HOST, Server, free_port, until
from redis.crc import key_slot
from redis.exceptions import ResponseError
from secure_parts import Security

from runtime.redis.keys import Keys
from runtime.settings import Settings, load_settings

KEYS = Keys("test")
SHARDS = ((0, 5460), (5461, 10922), (10923, 16383))


async def set_epoch(node: Server, epoch: int) -> None:
    """Give a new node its epoch; redis-py says it twice when the disk delays the answer."""
    try:
        await node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    except ResponseError as error:
        if "already non-zero" not in str(error):
            raise


class ClusterSet:
    """Three primaries; the one that serves the events has a replica."""

    def __init__(
        self, folder: Path, security: Security | None = None, events_key: str = KEYS.events
    ) -> None:
        self.events_key = events_key
        self.buses = [free_port() for _ in range(4)]
        self.nodes = [
            Server(
                folder,
                f"node-{n}",
                *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0"),
                *("--repl-diskless-sync-delay", "0", "--cluster-require-full-coverage", "no"),
                *("--cluster-announce-ip", HOST),
                security=security,
            )
            for n, bus in enumerate(self.buses)
        ]

    @property
    def events_primary(self) -> Server:
        """Return the node that serves the event stream at first."""
        return self.primary_of(self.events_key)

    def primary_of(self, key: str) -> Server:
        """Return the node that serves a key at first."""
        slot = key_slot(key.encode())
        return next(n for n, (_, last) in zip(self.nodes, SHARDS, strict=False) if slot <= last)

    async def start(self) -> None:
        """Start, join, assign the slots, attach the replica."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            await node.ready()
        for n, ((first, last), node) in enumerate(zip(SHARDS, self.nodes, strict=False)):
            await node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            await set_epoch(node, n + 1)
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

    def environment(self) -> dict[str, str]:
        """Return a worker's variables."""
        urls = ",".join(node.url for node in self.nodes[:3])
        return {"REDIS_URL": urls, "REDIS_CLUSTER": "true"}

    def settings(self) -> Settings:
        """Return a worker's settings."""
        return load_settings(self.environment())

    def kill(self) -> None:
        """Kill all."""
        for node in self.nodes:
            node.kill()
