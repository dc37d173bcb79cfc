"""What a target must offer to be started, driven and judged."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from harness.errors import UserError
from harness.targets.access import Permissions as Permissions
from harness.targets.access import RedisAccess as RedisAccess

# What a target may offer beyond the common routes. A guarantee whose capability is missing is
# "not applicable": listed, not counted.
SESSION_DATA = "session_data"  # /api/v1/session/data reads and writes server-side session data
STOP_STATES = "stop_states"  # a stop answers requested, cancelled, finished or not_found
RESYNC_HINT = "resync_hint"  # sockets are told when a gap could not be closed
READY = "ready"  # /ready tells the truth about dependencies
CONFIG = "config"  # an admin changes configuration that all workers use
SIGN_IN_LIMIT = "sign_in_limit"  # sign-ins of one account are limited, across workers
PRESENCE = "presence"  # who is online, which models are in use, on any worker
MODEL_LISTS = "model_lists"  # /api/models lists the provider's models; ?refresh=true asks anew
TASK_LIST = "task_list"  # an admin lists all running tasks, by /api/tasks
TRACES = "traces"  # sends OpenTelemetry spans, and continues the trace of a request's header

SOCKET_PATH = "/ws/socket.io"  # where every target serves Socket.IO
SQLITE, POSTGRESQL = "sqlite", "postgresql"  # databases, as in the scenario file

# What the harness sees by itself of a deployment that it started; of an external one it may not.
PROVIDER = "provider"  # its own provider streams the answers, and knows what became of each
PROCESSES = "processes"  # the workers' processes: descriptors, exits, stalls
INSTRUMENTS = frozenset({PROVIDER, PROCESSES})


# What an ordinary application is given that documents no rules of its own.
ASKS_SENTINELS = ("get-master-addr-by-name", "master", "masters", "replicas", "slaves", "sentinels")
ALL_BUT_ADMINISTRATION = Permissions(
    nodes=("~*", "&*", "+@all", "-@admin"),
    sentinels=("&*", "+@connection", "+@pubsub", *(f"+sentinel|{word}" for word in ASKS_SENTINELS)),
)


@dataclass(frozen=True)
class WorkerSpec:
    """One worker to start: its own process, port and INSTANCE_ID."""

    number: int
    host: str
    port: int
    instance: str
    redis: RedisAccess
    provider_url: str
    data_directory: str
    secret: str
    database_url: str = ""  # of the run's PostgreSQL; empty: a file of the target's own
    collector: str = ""  # OTLP over HTTP; empty: send no spans
    trace_share: float = 1.0  # of the requests that come without a trace
    run: str = ""  # what spans say of where they come from
    extra: dict[str, str] = field(default_factory=dict)


class Target(ABC):
    """A system under test."""

    name: ClassVar[str]
    capabilities: frozenset[str]
    instruments: frozenset[str] = INSTRUMENTS
    topologies: ClassVar[frozenset[str]] = frozenset({"standalone", "sentinel", "cluster"})
    ready_s: ClassVar[float] = 30.0  # how long a worker may take from its start until it is ready

    channels: ClassVar[Mapping[str, str]] = {}  # purpose → pub/sub channel
    databases: ClassVar[tuple[str, ...]] = (SQLITE,)  # it can use; the first unless told
    database_pool: ClassVar[tuple[int, int]] = (5, 10)  # of a worker, and overflow: SQLAlchemy's
    first_alone: ClassVar[bool] = False  # the first worker makes the tables, the others wait for it
    link_is_url: ClassVar[bool] = False  # on one Redis server: the URL names the link, no hook

    @property
    def label(self) -> str:
        """Return the name that `--target` takes, with the version where there is one."""
        return self.name

    def install(self, say: Callable[[str], None]) -> str:
        """Install what workers need, from the cache or now; return their interpreter."""
        del say  # the harness's own environment has it all
        return sys.executable

    @abstractmethod
    def command(self, worker: WorkerSpec) -> list[str]:
        """Return the argument vector that starts one worker in the foreground."""

    @abstractmethod
    def environment(self, worker: WorkerSpec) -> dict[str, str]:
        """Return the variables to add to a clean environment for one worker."""

    def refusal(self, topology: str, auth: str, tls: str) -> str:
        """Return why it cannot use a Redis that is secured so (as in a scenario); else nothing."""
        del topology, auth, tls
        return ""

    def permissions(self, redis: RedisAccess, environment: Mapping[str, str]) -> Permissions:
        """Return the ACL rules of its users; it may block.

        `environment` is what a worker is started in, less the target's own variables.
        """
        del redis, environment
        return ALL_BUT_ADMINISTRATION

    def channel(self, purpose: str) -> str:
        """Return the pub/sub channel that carries `events` or `tasks` (stop commands)."""
        if purpose not in self.channels:
            known = ", ".join(sorted(self.channels)) or "none"
            raise UserError(f"target {self.name} has no channel `{purpose}`; known: {known}")
        return self.channels[purpose]

    @abstractmethod
    def key(self, purpose: str) -> str:
        """Return the Redis key that serves `events`, `tasks` or `sessions`.

        Cluster faults name what they hit (`primary-of:events`); the key's slot finds the node.
        """
