"""Real parts for the tests of the network: Redis, Toxiproxy, provider, started under a guardian."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Boxed, Deployment, Node
from harness.deploy.spawner import Guardian
from harness.deploy.workers import detours_file
from harness.network.links import Links
from harness.network.toxiproxy import start_toxiproxy
from harness.targets import get_target
from harness.waiting import wait_for


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[tuple[Guardian, Deployment]]:
    """Give a guardian and an empty deployment on a leased subnet; all is gone afterwards."""
    lease = Lease.acquire()
    deployment = Deployment("standalone", get_target(), lease.subnet)
    guardian = await Guardian.start(RunFolder.create(folder / "run"), lease)
    try:
        yield guardian, deployment
    finally:
        await guardian.stop(grace=0.1)


def talk(node: Node, *words: str) -> bytes:
    """Send one command over a direct connection; return the start of the raw reply."""
    with socket.create_connection(node.address, 1) as connection:
        connection.settimeout(2)
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(65536)


async def start_node(guardian: Guardian, name: str, host: str, *config: str) -> Node:
    """Start one redis-server (or sentinel) and wait for its PONG."""
    kind = "sentinel" if "sentinel" in name else "redis"
    port = 26379 if kind == "sentinel" else 6379
    folder = guardian.run.data / name
    folder.mkdir()
    lines = [f"bind {host}", f"port {port}", f"dir {folder}", "daemonize no", 'save ""', *config]
    if kind == "sentinel":
        lines.remove('save ""')
    (folder / "node.conf").write_text("\n".join(lines) + "\n")
    argv = ["redis-server", str(folder / "node.conf")]
    argv += ["--sentinel"] if kind == "sentinel" else []
    process = await guardian.spawn(name, argv, dict(os.environ))
    node = Node(name, kind, host, port, folder, process)
    await wait_for(lambda: b"PONG" in talk(node, "PING"), 5, f"{name} answers")
    return node


async def linked(
    guardian: Guardian, deployment: Deployment, workers: int = 1, boxed: Boxed | None = None
) -> Links:
    """Start a real Toxiproxy and make the links."""
    await start_toxiproxy(guardian, deployment, boxed)
    links = Links(deployment, detours_file(guardian.run))
    await links.create(workers)
    return links
