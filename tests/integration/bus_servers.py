"""Real Redis servers and sentinels on free loopback ports, for the tests of the runtime's bus."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from runtime.redis.factory import topology_from
from runtime.redis.topology import Topology
from runtime.settings import Settings, load_settings

HOST = "127.91.0.1"


def free_port() -> int:
    """Return a port that is free now, below the ephemeral ones' cluster bus."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def until(predicate: Callable[[], Any], seconds: float = 8.0) -> Any:
    """Return the first truthy value (also of a coroutine); fail after `seconds`."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = predicate()
            if isinstance(last, Awaitable):
                last = await last
            if last:
                return last
        except Exception as error:
            last = error
        await asyncio.sleep(0.01)
    raise AssertionError(f"not so after {seconds} s; last: {last!r}")


class Server:
    """One redis-server or sentinel process."""

    def __init__(self, folder: Path, name: str, *words: str, sentinel: str = "") -> None:
        self.port = free_port()
        self.folder = folder / name
        self.folder.mkdir()
        self._words = words
        self._sentinel = sentinel
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start or start again, empty unless told to persist."""
        common = ["--bind", HOST, "--port", str(self.port), "--dir", str(self.folder)]
        command = ["redis-server", *common, "--save", "", *self._words]
        if self._sentinel:
            config = self.folder / "sentinel.conf"
            config.write_text(f"bind {HOST}\nport {self.port}\ndir {self.folder}\n{self._sentinel}")
            command = ["redis-server", str(config), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"redis://{HOST}:{self.port}/0"

    async def call(self, *words: Any) -> Any:
        """Run a command on a connection of its own."""
        client = Redis(host=HOST, port=self.port, decode_responses=True, socket_timeout=1)
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def ready(self) -> None:
        """Wait until it answers."""
        await until(lambda: self.call("PING"))

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill, also when stopped, and reap."""
        if self.process:
            self.process.kill()
            self.process.send_signal(signal.SIGCONT)
            self.process.wait()
            self.process = None


class SentinelSet:
    """A primary, a replica, and one sentinel that is quick to decide."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            Server(folder, "redis-0", "--repl-diskless-sync-delay", "0"),
            Server(folder, "redis-1"),
        ]
        primary = self.nodes[0]
        self.nodes[1]._words = (
            *("--replicaof", HOST, str(primary.port)),
            *("--replica-announce-ip", HOST),  # else Sentinel sees the source address
        )
        watch = (
            f"sentinel monitor mymaster {HOST} {primary.port} 1\n"
            "sentinel down-after-milliseconds mymaster 400\n"
            "sentinel failover-timeout mymaster 3000\n"
        )
        self.nodes[0]._words += ("--replica-announce-ip", HOST)
        self.sentinel = Server(folder, "sentinel", sentinel=watch)

    async def start(self) -> None:
        """Start all and wait until the sentinel knows the replica and it is in sync."""
        self.nodes[0].start()
        await self.nodes[0].ready()
        self.nodes[1].start()
        await until(lambda: self._in_sync())
        self.sentinel.start()
        await until(lambda: self._known())

    async def _in_sync(self) -> bool:
        replication = await self.nodes[1].call("INFO", "replication")
        return bool(replication["master_link_status"] == "up")

    async def _known(self) -> bool:
        fields = await self.sentinel.call("SENTINEL", "MASTER", "mymaster")
        found = (
            fields
            if isinstance(fields, dict)
            else dict(zip(fields[::2], fields[1::2], strict=True))
        )
        return int(found["num-slaves"]) == 1

    async def primary(self) -> int:
        """Return the port of the primary that the sentinel names."""
        found = await self.sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
        return int(found[1])

    def settings(self) -> Settings:
        """Return a worker's settings."""
        return load_settings(
            {
                "REDIS_URL": "redis://mymaster:6379/0",
                "REDIS_SENTINEL_HOSTS": f"{HOST}:{self.sentinel.port}",
            }
        )

    def kill(self) -> None:
        """Kill all."""
        for server in (self.sentinel, *self.nodes):
            server.kill()


def topology_of(url_or_settings: str | Settings) -> Topology:
    """Return a topology for a URL or settings."""
    settings = url_or_settings
    if isinstance(settings, str):
        settings = load_settings({"REDIS_URL": settings})
    topology = topology_from(settings)
    assert topology
    return topology


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """Give a standalone server that answers; it is gone afterwards."""
    server = Server(folder, "redis")
    server.start()
    await server.ready()
    try:
        yield server
    finally:
        server.kill()
