"""Real parts for the tests of the network: Redis, Toxiproxy, provider, started by subprocess."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.deploy.model import Deployment, Node
from harness.network.links import Links
from harness.network.toxiproxy import start_toxiproxy
from harness.targets import get_target
from harness.waiting import WaitTimeout, wait_for

SUBNET = f"127.94.{os.getpid() % 250}"


class LocalProcess:
    """What the guardian's process offers, on a child of the test itself."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = child.pid
        self.log = log
        self._child = child

    @property
    def exit_status(self) -> int | None:
        """Return None while it runs."""
        return self._child.poll()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    async def wait(self, deadline: float) -> int:
        """Return the exit status."""
        try:
            return await asyncio.to_thread(self._child.wait, deadline)
        except subprocess.TimeoutExpired as error:
            raise WaitTimeout(str(error)) from error


class LocalGuardian:
    """Spawns as the guardian does; ends everything it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []

    async def spawn(
        self, name: str, argv: list[str], env: dict[str, str], cwd: Path | None = None
    ) -> LocalProcess:
        """Start a process with a complete environment; its output goes to a log."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            child = _start(argv, env, cwd, output)
        self.children.append(child)
        return LocalProcess(name, child, log)

    def stop(self) -> None:
        """Kill and reap."""
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait(10)


def _start(
    argv: list[str], env: dict[str, str], cwd: Path | None, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, env=env, cwd=cwd, stdout=output, stderr=output)


@contextmanager
def local_guardian(folder: Path) -> Iterator[LocalGuardian]:
    """Give a guardian whose processes are gone afterwards."""
    guardian = LocalGuardian(folder)
    try:
        yield guardian
    finally:
        guardian.stop()


def talk(node: Node, *words: str) -> bytes:
    """Send one command over a direct connection; return the start of the raw reply."""
    import socket

    with socket.create_connection(node.address, 1) as connection:
        connection.settimeout(2)
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(65536)


async def start_node(guardian: LocalGuardian, name: str, last: int, *config: str) -> Node:
    """Start one redis-server (or sentinel) on the test's subnet and wait for its PONG."""
    host, kind = f"{SUBNET}.{last}", "sentinel" if "sentinel" in name else "redis"
    port = 26379 if kind == "sentinel" else 6379
    folder = guardian.folder / name
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


def deployment_of(topology: str) -> Deployment:
    """Return an empty deployment on the test's subnet."""
    return Deployment(topology, get_target(), SUBNET)


async def linked(guardian: LocalGuardian, deployment: Deployment, workers: int = 1) -> Links:
    """Start a real Toxiproxy and make the links."""
    await start_toxiproxy(guardian, deployment)  # type: ignore[arg-type]  # same interface
    links = Links(deployment)
    await links.create(workers)
    return links
