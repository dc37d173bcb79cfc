"""A real Redis topology under a guardian, with or without workers, for tests that break it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from harness.clock import RunClock, monotonic
from harness.deploy.direct import direct, role_of
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment, Node
from harness.deploy.provider import start_provider
from harness.deploy.redis import PRIMARIES, restart_node, start_redis
from harness.deploy.redis_files import SLOTS
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.scenario import Redis
from harness.targets import get_target
from harness.targets.base import Target
from harness.waiting import wait_for

UNSEEN = 300  # half a second of the events that the tests publish
UP_WITHIN_S = 20.0


@dataclass
class Live:
    """What runs: the servers, perhaps a provider and workers."""

    guardian: Guardian
    deployment: Deployment
    run: RunFolder
    redis: Redis

    def primary_of(self, key: str) -> Node:
        """Return the node that serves a key until the first failover."""
        if self.deployment.topology != "cluster":
            return self.deployment.nodes[0]
        return self.deployment.nodes[key_slot(key.encode()) * PRIMARIES // SLOTS]

    def replicas_of(self, node: Node) -> list[Node]:
        """Return the replicas of a primary, as started."""
        nodes = self.deployment.nodes
        if self.deployment.topology == "cluster":
            return [nodes[nodes.index(node) + PRIMARIES]]
        return [other for other in nodes if other is not node]

    async def kill(self, node: Node) -> None:
        """End a server by SIGKILL and wait until it is gone."""
        assert node.process is not None
        node.process.signal(signal.SIGKILL)
        await node.process.wait(5)

    async def restart(self, node: Node, *, empty: bool) -> float:
        """Start a server again and wait for its role; return when it first answered (mono s)."""

        async def answered() -> float:
            await wait_for(lambda: command(node, "PING"), UP_WITHIN_S, f"{node.name} answers")
            return monotonic()

        started = restart_node(self.deployment, node, self.redis, empty)
        _, up = await asyncio.gather(started, answered())
        return up

    async def isolate(self, node: Node, stream: str) -> None:
        """Have a primary acknowledge UNSEEN writes to a stream that nobody else ever gets.

        By its access rules: replicas may not synchronise, and nobody may read a stream.
        """
        await command(node, "ACL SETUSER", "default", "-psync", "-sync", "-xread")
        for kind in ("replica", "normal"):
            await command(node, "CLIENT KILL", "TYPE", kind)
        before = await command(node, "XLEN", stream)

        async def grown() -> bool:
            return bool(await command(node, "XLEN", stream) - before >= UNSEEN)

        await wait_for(grown, 10, f"{UNSEEN} writes that only {node.name} has")

    async def switched(self, node: Node) -> tuple[float, Node]:
        """Return when a replica of `node` took its place (monotonic s), and which one.

        As workers can know it: a sentinel names it, or in a cluster it says so itself.
        """
        candidates = {replica.address: replica for replica in self.replicas_of(node)}
        sentinel = self.deployment.topology == "sentinel"
        asked = self.deployment.sentinels if sentinel else list(candidates.values())

        async def promoted() -> Node | None:
            for found in await asyncio.gather(*map(self._primary_by, asked)):
                if found in candidates:
                    return candidates[found]
            return None

        new = await wait_for(promoted, UP_WITHIN_S, f"{node.name} is replaced")
        assert new is not None
        return monotonic(), new

    async def _primary_by(self, node: Node) -> tuple[str, int] | None:
        """Return the primary's address as a sentinel knows it, or the node's own if it is one."""
        if node.kind == "redis":
            return node.address if await role_of(node) == "primary" else None
        words = ("SENTINEL GET-MASTER-ADDR-BY-NAME", self.deployment.service)
        host, port = await command(node, *words)
        return host, int(port)


async def command(node: Node, *words: Any, **options: Any) -> Any:
    """Run a command on a connection of its own; return the reply."""
    client = direct(node, **options)
    try:
        return await client.execute_command(*words)
    finally:
        await client.aclose()


@asynccontextmanager
async def live(
    topology: str,
    folder: Path,
    workers: int = 0,
    redis: Redis | None = None,
    target: Target | None = None,
) -> AsyncIterator[Live]:
    """Run a topology, and with `workers` a provider and workers; all is gone afterwards."""
    run = RunFolder.create(folder / topology)
    lease = Lease.acquire()
    guardian = await Guardian.start(run, lease)
    try:
        deployment = Deployment(topology, target or get_target("runtime"), lease.subnet)
        parts = Live(guardian, deployment, run, redis or Redis())
        await start_redis(ProcessHost(guardian), deployment, parts.redis, run)
        if workers:
            clock = RunClock()
            await start_provider(guardian, deployment, run, clock)
            await start_workers(guardian, deployment, run, clock, workers)
        yield parts
    finally:
        await guardian.stop(grace=2.0)
