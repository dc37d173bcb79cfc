"""What a scenario says about each kind of fault. Data, no logic; `harness/faults/` acts on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of every part of a scenario: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def model_at(
    whole: type[Model], parts: Mapping[str, type[Model]], location: Sequence[int | str]
) -> type[Model]:
    """Return the model of the part of a file that a key at `location` belongs to."""
    for part in location[:-1]:
        whole = parts.get(str(part), whole)
    return whole


class _Fault(Model):
    at: float = Field(ge=0, description="seconds of load time")
    name: str = ""
    for_s: float = Field(5, gt=0)

    @property
    def ends(self) -> float:
        """Return the load time at which the fault is healed."""
        return self.at + self.for_s


class Kill(_Fault):
    """SIGKILL a Redis process; healed by starting it again, its data kept or empty."""

    kind: Literal["kill"]
    target: str
    restart: Literal["kept", "empty"] = "kept"


class Pause(_Fault):
    """SIGSTOP a Redis process; healed by SIGCONT."""

    kind: Literal["pause"]
    target: str


class Latency(_Fault):
    """Delay every byte on links, both ways together by about `latency_ms`."""

    kind: Literal["latency"]
    target: str = "all-nodes"
    workers: str = "all-workers"
    latency_ms: int = Field(gt=0)
    jitter_ms: int = Field(0, ge=0)


class Cut(_Fault):
    """Cut links. The modes are different faults, see docs/faults.md.

    `reset`: open connections end at once, new ones get RST. `held`: bytes stop both ways and are
    delivered at the heal. `refused`: open connections close, new ones are refused. `half-open`:
    open connections are silent for good and never closed, new ones pass.
    """

    kind: Literal["cut"]
    mode: Literal["reset", "held", "refused", "half-open"]
    target: str = "all-nodes"
    workers: str = "all-workers"


class Partition(_Fault):
    """Cut nodes off from other nodes, and from no worker. The modes are those of a cut.

    `held`: packets are dropped, and TCP sends them again at the heal. `reset`: open connections
    and new ones are answered with RST.
    """

    kind: Literal["partition"]
    target: str
    peers: str = "all-peers"
    mode: Literal["held", "reset"] = "held"
    for_s: float = Field(5, ge=4, description="replication shows its silence after 3 s")


class Failover(_Fault):
    """Ask Sentinel or a replica of the Cluster for an orderly failover; nothing to heal."""

    kind: Literal["failover"]
    target: str


class ClientKill(_Fault):
    """CLIENT KILL TYPE: the server closes connections of one type; nothing to heal."""

    kind: Literal["client-kill"]
    target: str
    type: Literal["normal", "pubsub"] = "normal"


class ClientPause(_Fault):
    """CLIENT PAUSE: the server stops answering, or only writing, for `for_s`."""

    kind: Literal["client-pause"]
    target: str
    mode: Literal["all", "write"] = "all"


class Config(_Fault):
    """CONFIG SET of server settings; healed by setting the old values again."""

    kind: Literal["config"]
    target: str
    settings: dict[str, str] = Field(min_length=1)


class Flush(_Fault):
    """FLUSHALL: every key is gone, connections stay; nothing to heal."""

    kind: Literal["flush"]
    target: str


class SlotMove(_Fault):
    """Migrate slots of a cluster to another primary, and back; `open_s` half moved."""

    kind: Literal["slot-move"]
    target: str
    slots: int = Field(1, ge=1, le=5000)
    open_s: float = Field(1, ge=0)


class Flood(_Fault):
    """PUBLISH more than subscribers' output buffers may hold; nothing to heal."""

    kind: Literal["flood"]
    target: str
    channel: Literal["events", "tasks"] = "events"
    bytes: int = Field(34_000_000, ge=1, le=500_000_000)
    times: int = Field(1, ge=1, le=1000)


class Fill(_Fault):
    """Fill the memory up to `maxmemory`; healed by deleting it and setting the old limits."""

    kind: Literal["fill"]
    target: str
    policy: Literal[
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] = "noeviction"
    room_mb: int = Field(8, ge=1, le=1024)


class ConnectStorm(_Fault):
    """Open connections and keep them; healed by closing them."""

    kind: Literal["connect-storm"]
    target: str
    connections: int = Field(100, ge=1, le=10_000)


class WorkerKill(_Fault):
    """SIGKILL workers; healed by starting them again."""

    kind: Literal["worker-kill"]
    workers: str = "a-worker"


class WorkerStop(_Fault):
    """SIGTERM workers, SIGKILL those that are there after `grace_s`; healed by starting them.

    `one_by_one` is a roll-out: each is started before the next one is stopped, and `for_s` is
    the time planned for all of them. An `unlisted` one is taken out of the balancer's list before
    it is stopped, and put in again when it is ready.
    """

    kind: Literal["worker-stop"]
    workers: str = "a-worker"
    one_by_one: bool = False
    grace_s: float = Field(30, gt=0)
    unlisted: bool = False


class WorkerPause(_Fault):
    """SIGSTOP workers; healed by SIGCONT."""

    kind: Literal["worker-pause"]
    workers: str = "a-worker"


class DatabaseRestart(_Fault):
    """Stop PostgreSQL in order, open transactions are rolled back; started again at the heal."""

    kind: Literal["database-restart"]


class DatabasePause(_Fault):
    """SIGSTOP every process of PostgreSQL; healed by SIGCONT."""

    kind: Literal["database-pause"]


class DatabaseExhausted(_Fault):
    """Take every connection that PostgreSQL has left; healed by closing them.

    With `evict` those of the workers are closed and taken as well.
    """

    kind: Literal["database-exhausted"]
    evict: bool = False


class Balancer(_Fault):
    """Reload the balancer (open sockets stay) or stop it for `for_s` (all are closed)."""

    kind: Literal["balancer"]
    action: Literal["reload", "restart"]
    for_s: float = Field(1, gt=0)


class BalancerRemove(_Fault):
    """Leave workers out of those that the balancer chooses from; healed by the whole list."""

    kind: Literal["balancer-remove"]
    workers: str = "a-worker"


Fault = Annotated[
    Kill
    | Pause
    | Latency
    | Cut
    | Partition
    | Failover
    | ClientKill
    | ClientPause
    | Config
    | Flush
    | SlotMove
    | Flood
    | Fill
    | ConnectStorm
    | WorkerKill
    | WorkerStop
    | WorkerPause
    | DatabaseRestart
    | DatabasePause
    | DatabaseExhausted
    | Balancer
    | BalancerRemove,
    Field(discriminator="kind"),
]
FAULT_SPECS: dict[str, type[Model]] = {
    "kill": Kill,
    "pause": Pause,
    "latency": Latency,
    "cut": Cut,
    "partition": Partition,
    "failover": Failover,
    "client-kill": ClientKill,
    "client-pause": ClientPause,
    "config": Config,
    "flush": Flush,
    "slot-move": SlotMove,
    "flood": Flood,
    "fill": Fill,
    "connect-storm": ConnectStorm,
    "worker-kill": WorkerKill,
    "worker-stop": WorkerStop,
    "worker-pause": WorkerPause,
    "database-restart": DatabaseRestart,
    "database-pause": DatabasePause,
    "database-exhausted": DatabaseExhausted,
    "balancer": Balancer,
    "balancer-remove": BalancerRemove,
}
