"""INFO, clients and role of every Redis node, once a second, over connections of its own."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from harness.deploy.direct import direct
from harness.deploy.model import Deployment, Node
from harness.faults.views import raw, read_role
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe, close_quietly
from harness.probes.timing import ticks

PERIOD_S = 1.0
SECTIONS = ("clients", "memory", "stats", "replication", "persistence")
FIELDS = {  # name in a sample → name in INFO
    "clients": "connected_clients",
    "blocked": "blocked_clients",
    "rejected": "rejected_connections",
    "received": "total_connections_received",
    "memory": "used_memory",
    "ops": "instantaneous_ops_per_sec",
    "commands": "total_commands_processed",
    "role": "role",
    "offset": "master_repl_offset",
    "replicas": "connected_slaves",
    "link": "master_link_status",
    "loading": "loading",
}


class RedisProbe(Probe):
    """One task per node, so that a hung node delays nobody."""

    name = "redis"

    def __init__(self, deployment: Deployment, writer: HistoryWriter) -> None:
        super().__init__(deployment, writer)
        self._clients: dict[str, Redis] = {}
        self._roles: dict[str, str] = {}

    async def start(self) -> None:
        """Begin to watch every node."""
        self._clients = {node.name: direct(node) for node in self.deployment.nodes}
        for node in self.deployment.nodes:
            self.spawn(self._node(node))

    async def watch(self) -> None:
        """Do nothing: every node has its own task."""

    async def stop(self) -> None:
        """Close the connections."""
        await super().stop()
        for client in self._clients.values():
            await close_quietly(client.aclose())

    async def _node(self, node: Node) -> None:
        client = self._clients[node.name]
        async for _ in ticks(PERIOD_S):
            try:
                await self._sample(node, client)
            except Exception as error:  # down, hung or loading: that is a sample too
                self._role(node, "down")
                self.writer.record(
                    "sample", probe="redis", node=node.name, role="down", error=str(error)
                )

    async def _sample(self, node: Node, client: Redis) -> None:
        info: dict[str, Any] = await client.info(*SECTIONS)
        kinds = await _clients_by_kind(client)
        role = (await read_role(client)).name
        self._role(node, role)
        values = {name: info[field] for name, field in FIELDS.items() if field in info}
        values["role"] = role
        self.writer.record("sample", probe="redis", node=node.name, **values, **kinds)

    def _role(self, node: Node, role: str) -> None:
        if self._roles.get(node.name) != role:
            self._roles[node.name] = role
            self.writer.record("role", node=node.name, role=role)


async def _clients_by_kind(client: Redis) -> dict[str, int]:
    """Return how many clients CLIENT LIST shows, by kind; the text is counted, not parsed."""
    lines = bytes_of(await raw(client, "CLIENT LIST")).splitlines()
    pubsub = sum(b" flags=P" in line for line in lines)
    replication = sum(b" flags=S" in line or b" flags=M" in line for line in lines)
    return {"listed": len(lines), "pubsub": pubsub, "replication": replication}


def bytes_of(reply: Any) -> bytes:
    """Return a reply as bytes, whether the client decodes replies or not."""
    return reply.encode() if isinstance(reply, str) else bytes(reply)
