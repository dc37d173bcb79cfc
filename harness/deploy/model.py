"""What a deployment consists of, as later stages see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.targets.base import RedisAccess, Target

if TYPE_CHECKING:
    from harness.deploy.security import Security

PIN_HEADER = "X-Harness-Worker"  # of a request: the worker that the balancer must choose
SERVED_HEADER = "X-Served-By"  # of an answer: the address of the worker that gave it


class Process(Protocol):
    """A process of the run, of the guardian's or of a container (never the harness's own child)."""

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

    async def state(self) -> str:
        """Return the kernel's letter of its state, T for a stopped one; nothing when unknown."""


@dataclass
class Node:
    """A Redis server or a sentinel. `process` changes when a fault restarts it.

    `bind` is where it listens, its announced address unless given; `logfile` is Redis's own
    setting, empty for standard output.
    """

    name: str  # redis-0, sentinel-2, …
    kind: str  # redis or sentinel
    host: str
    port: int
    directory: Path
    process: Process | None = None
    bind: str = ""
    logfile: str = ""
    login: dict[str, Any] = field(default_factory=dict)  # redis-py's options: credentials, TLS

    @property
    def address(self) -> tuple[str, int]:
        """Return (host, port): the announced address, never a link's."""
        return self.host, self.port


class Boxed(Protocol):
    """A part that is started in a container instead of as a process."""

    image: str

    async def launch(
        self,
        name: str,
        command: Sequence[str],
        *,
        program: str = "",
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start it, also another time; `program` empty: the image's entry point."""

    async def output(self, words: Sequence[str]) -> str:
        """Run a command where it runs and return what it prints."""


class Host(Protocol):
    """Where Redis servers run: processes of this machine, or containers."""

    name: str  # as in the scenario file

    @property
    def version(self) -> str:
        """Return the servers' version, like 7.0.15; known once prepared."""

    def node(self, subnet: str, kind: str, number: int, directory: Path) -> Node:
        """Return the node or sentinel with its address and files; nothing is started."""

    async def prepare(self, nodes: Sequence[Node]) -> None:
        """Make ready to launch these nodes; raise MissingPart without what that needs."""

    async def launch(self, node: Node) -> Process:
        """Start the server of a node from the files in its directory, also for another time."""

    def boxed(self, image: str | None) -> Boxed | None:
        """Return how to start another part from an image; None: it is to be a process."""

    async def close(self) -> None:
        """Start nothing more; what was started is ended by the guardian."""


@dataclass
class Worker:
    """One worker process of the target."""

    number: int
    host: str
    port: int
    instance: str
    process: Process | None = None
    base: str = ""  # of an external one: its URL as the user gave it

    @property
    def address(self) -> tuple[str, int]:
        """Return (host, port)."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """Return the base URL of the worker."""
        return self.base or f"http://{self.host}:{self.port}"


@dataclass
class Balancer:
    """nginx in front of the workers. `process` changes when a fault restarts it."""

    host: str
    port: int
    directory: Path
    version: str = ""
    process: Process | None = None
    boxed: Boxed | None = None  # None: a process

    @property
    def address(self) -> tuple[str, int]:
        """Return (host, port)."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """Return the base URL that users dial."""
        return f"http://{self.host}:{self.port}"


@dataclass
class Database:
    """A PostgreSQL server of the run's own. `process` changes when a fault starts it again."""

    host: str
    port: int
    directory: Path  # outside the run's folder, see `postgres.py`
    process: Process | None = None
    version: str = ""
    connections: int = 100  # how many it takes at most

    @property
    def address(self) -> tuple[str, int]:
        """Return (host, port)."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """Return the URL of its one database; whoever reaches its address is trusted."""
        return f"postgresql://postgres@{self.host}:{self.port}/postgres"


@dataclass(frozen=True)
class Link:
    """The way of one worker to one node, through Toxiproxy."""

    name: str  # w0-redis-1; after a half-open cut w0-redis-1.1
    worker: int
    node: str
    listen: tuple[str, int]
    upstream: tuple[str, int]
    silent: tuple[tuple[str, int], ...] = ()  # earlier addresses, whose connections are half open


@dataclass(frozen=True)
class Tracing:
    """Where workers send their spans, for which share of requests, and the run's name on them."""

    collector: str  # base URL of OTLP over HTTP
    share: float
    run: str


@dataclass
class Deployment:
    """Everything that runs. Filled in stages: nodes, provider, links, workers, balancer."""

    topology: str
    target: Target
    subnet: str  # 127.x.y
    nodes: list[Node] = field(default_factory=list)
    sentinels: list[Node] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)  # empty: no Toxiproxy, workers dial directly
    balancer: Balancer | None = None  # None: users dial the workers themselves
    provider_url: str = ""
    toxiproxy_url: str = ""
    database: Database | None = None  # None: the target's own files (SQLite)
    python_path: tuple[Path, ...] = ()  # folders with the versions of `--with`
    worker_cpus: tuple[int, ...] = ()  # processors of the workers alone; empty: any
    hooked: bool = True  # the dial hook sends connections to links; else the worker's URL does
    variables: Mapping[str, str | None] = field(default_factory=dict)  # of every worker
    service: str = "mymaster"
    host: Host | None = None  # of the Redis servers, once they are started
    security: Security | None = None  # of the Redis servers, once they are placed
    vetted: bool = False  # its hosts may be loaded although they are not 127.0.0.0/8
    tracing: Tracing | None = None  # None: workers send no spans
    max_rate: float = 0  # requests/s of all load processes together; 0: no limit

    @property
    def access(self) -> RedisAccess:
        """Return how workers reach Redis."""
        access = RedisAccess(
            self.topology,
            tuple(node.address for node in self.nodes),
            tuple(node.address for node in self.sentinels),
            self.service,
        )
        return self.security.opens(access) if self.security else access

    def access_of(self, worker: int) -> RedisAccess:
        """Return how one worker reaches Redis: without the hook, its link is the address."""
        if self.hooked or not self.links:
            return self.access
        links = tuple(link.listen for link in self.links if link.worker == worker)
        return replace(self.access, nodes=links, sentinels=())

    @property
    def redis_addresses(self) -> list[str]:
        """Return host:port of every server as workers name it: its own, or without hook a link."""
        if self.hooked or not self.links:
            return [f"{n.host}:{n.port}" for n in (*self.nodes, *self.sentinels)]
        return [f"{link.listen[0]}:{link.listen[1]}" for link in self.links]

    def node(self, name: str) -> Node:
        """Return a node or sentinel by name."""
        return next(n for n in (*self.nodes, *self.sentinels) if n.name == name)
