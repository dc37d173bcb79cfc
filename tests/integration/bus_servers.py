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
from secure_parts import WATCHER, WATCHER_PASSWORD, Security

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
    """One redis-server or sentinel process; with `security` it speaks TLS and has ACL users."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *words: str,
        sentinel: str = "",
        host: str = HOST,
        security: Security | None = None,
    ) -> None:
        self.port = free_port()
        self.host = host
        self.security = security
        self.folder = folder / name
        self.folder.mkdir()
        self._words = words
        self._sentinel = sentinel
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start or start again, empty unless told to persist."""
        common = ["--bind", self.host, "--dir", str(self.folder)]
        ports = ["--port", str(self.port)]
        if self.security:
            ports = self.security.words(self.port)
        command = ["redis-server", *common, *ports, "--save", "", *self._words]
        if self._sentinel:
            command = ["redis-server", str(self._write_sentinel()), "--sentinel"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def _write_sentinel(self) -> Path:
        lines = [f"bind {self.host}", f"dir {self.folder}", self._sentinel]
        listen = f"port {self.port}"
        lines.append(self.security.sentinel_lines(self.port) if self.security else listen)
        config = self.folder / "sentinel.conf"
        config.write_text("\n".join(lines))
        return config

    @property
    def url(self) -> str:
        """Return the URL for an application."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{host}:{self.port}/0"
        return self.security.url(place) if self.security else f"redis://{place}"

    async def call(self, *words: Any) -> Any:
        """Run a command on a connection of its own."""
        options = self.security.client_options() if self.security else {}
        client = Redis(
            host=self.host, port=self.port, decode_responses=True, socket_timeout=1, **options
        )
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

    def __init__(self, folder: Path, security: Security | None = None) -> None:
        self.security = security
        self.nodes = [
            Server(folder, "redis-0", "--repl-diskless-sync-delay", "0", security=security),
            Server(folder, "redis-1", security=security),
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
        self.sentinel = Server(folder, "sentinel", sentinel=watch, security=security)

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

    async def promoted(self) -> bool:
        """Return whether the sentinel names the replica of before."""
        return await self.primary() == self.nodes[1].port

    def environment(self) -> dict[str, str]:
        """Return a worker's variables."""
        sentinels = {"REDIS_SENTINEL_HOSTS": f"{HOST}:{self.sentinel.port}"}
        if self.security is None:
            return {"REDIS_URL": "redis://mymaster:6379/0", **sentinels}
        return {
            "REDIS_URL": self.security.url("mymaster:6379/0"),
            **sentinels,
            "REDIS_SENTINEL_USERNAME": WATCHER,
            "REDIS_SENTINEL_PASSWORD": WATCHER_PASSWORD,
        }

    def settings(self) -> Settings:
        """Return a worker's settings."""
        return load_settings(self.environment())

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
async def serving(folder: Path, **options: Any) -> AsyncIterator[Server]:
    """Give a standalone server that answers; it is gone afterwards."""
    server = Server(folder, "redis", **options)
    server.start()
    await server.ready()
    try:
        yield server
    finally:
        server.kill()
