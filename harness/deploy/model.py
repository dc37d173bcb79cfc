"""What a deployment consists of, as later stages see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.targets.base import RedisAccess, Target


class Process(Protocol):
    """A process of the run, started by the guardian (never a child of the harness itself)."""

    name: str
    pid: int
    log: Path

    @property
    def exit_status(self) -> int | None:
        """Return None while it runs, else its exit code (negative: the signal's number)."""

    def signal(self, number: int) -> None:
        """Send a signal; does nothing when the process is gone."""

    async def wait(self, deadline: float) -> int:
        """Return the exit status; raise WaitTimeout after `deadline` seconds."""


@dataclass
class Node:
    """A Redis server or a sentinel. `process` changes when a fault restarts it."""

    name: str  # redis-0, sentinel-2, …
    kind: str  # redis or sentinel
    host: str
    port: int
    directory: Path
    process: Process | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Return (host, port): the announced address, never a link's."""
        return self.host, self.port


@dataclass
class Worker:
    """One worker process of the target."""

    number: int
    host: str
    port: int
    instance: str
    process: Process | None = None

    @property
    def url(self) -> str:
        """Return the base URL of the worker."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Link:
    """The way of one worker to one node, through Toxiproxy."""

    name: str  # w0-redis-1
    worker: int
    node: str
    listen: tuple[str, int]
    upstream: tuple[str, int]


@dataclass
class Deployment:
    """Everything that runs. Filled in stages: nodes, provider, links, workers."""

    topology: str
    target: Target
    subnet: str  # 127.x.y
    nodes: list[Node] = field(default_factory=list)
    sentinels: list[Node] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)  # empty: no Toxiproxy, workers dial directly
    provider_url: str = ""
    toxiproxy_url: str = ""
    service: str = "mymaster"

    @property
    def access(self) -> RedisAccess:
        """Return how workers reach Redis."""
        return RedisAccess(
            self.topology,
            tuple(node.address for node in self.nodes),
            tuple(node.address for node in self.sentinels),
            self.service,
        )

    def node(self, name: str) -> Node:
        """Return a node or sentinel by name."""
        return next(n for n in (*self.nodes, *self.sentinels) if n.name == name)
