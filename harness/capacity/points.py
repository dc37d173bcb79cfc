"""One point of a sweep: what a run at one number of users and workers measured."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

from harness.checks.measure import quantile
from harness.history.measured import MeasuredPart
from harness.history.records import Record, due
from harness.probes.processes import MACHINE

QUANTILES = ("p50", "p90", "p95", "p99")
MIB = 1 << 20


@dataclass(frozen=True, order=True)
class Key:
    """Which point: a topology, a number of workers, a number of users."""

    topology: str
    workers: int
    users: int


@dataclass(frozen=True)
class Point:
    """What one run measured, in its measured part. Processors are shares of one core.

    `worker_cpu` is the sum over workers, `other_cpu` over the rest of the run, `foreign_cpu` over
    all that is not of the run: other programs, and what a hypervisor took. `load_cpu` and
    `redis_cpu` are those of the busiest load process and Redis server. Memory in bytes:
    `worker_rss` the sum over workers. `connections` is the most that one worker had to Redis in
    all, `node_connections` to one node. `broken` names guarantees that failed; `unusable` says why
    the point says nothing about the workers, or is empty.
    """

    key: Key
    operations_per_s: float = 0.0
    tokens_per_s: float = 0.0
    operations: int = 0
    errors: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    worker_cpu: float = 0.0
    other_cpu: float = 0.0
    load_cpu: float = 0.0
    redis_cpu: float = 0.0
    foreign_cpu: float = 0.0
    late_ms: float = 0.0
    worker_rss: float = 0.0
    redis_memory: float = 0.0
    connections: int = 0
    node_connections: int = 0
    sockets: int = 0
    broken: tuple[str, ...] = ()
    unusable: str = ""
    run: str = ""

    @property
    def error_share(self) -> float:
        """Return the share of operations that failed or stayed without an answer; 1 for none."""
        return self.errors / self.operations if self.operations else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the point for points.jsonl and capacity.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Point:
        """Read it back."""
        return cls(**{**raw, "key": Key(**raw["key"]), "broken": tuple(raw["broken"])})


class PointFold(MeasuredPart):
    """Folds a history into a point, one pass; `finish` returns its measured values by name."""

    def __init__(self) -> None:
        super().__init__()
        self._latencies: list[float] = []
        self._answered = self._bad = self._tokens = 0
        self._series: dict[str, list[float]] = defaultdict(list)
        self._samples = {
            "worker": self._worker,
            "process": self._process,
            "redis": self._redis,
            "load": self._load,
        }
        self._each: dict[str, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))

    def completed(self, asked: Record, record: Record) -> None:
        """Take an operation that ended, with its invocation."""
        ok = record["k"] == "ok"
        self._answered += ok and self.is_measured(record["t"])
        if not self.is_measured(due(asked)):
            return
        if ok:
            self._latencies.append(1000 * (record["t"] - due(asked)))
        else:
            self._bad += 1

    def inside(self, record: Record) -> None:
        """Take tokens and samples."""
        if record["k"] == "run":
            self._tokens += record["last"] - record["first"] + 1
        elif record["k"] == "sample" and record["probe"] in self._samples:
            self._samples[record["probe"]](record)

    def _worker(self, record: Record) -> None:
        for name in ("cpu", "rss", "connections"):
            self._each[f"worker_{name}"][record["worker"]].append(record[name])
        self._series["node_connections"] += record["nodes"].values()

    def _process(self, record: Record) -> None:
        self._each["process_cpu"][record["name"]].append(record["cpu"])

    def _redis(self, record: Record) -> None:
        if "memory" in record:
            self._each["redis_memory"][record["node"]].append(record["memory"])

    def _load(self, record: Record) -> None:
        self._series["late_ms"].append(record["late_ms"])
        self._each["sockets"][record["process"]].append(record["sockets"])

    def finish(self) -> dict[str, Any]:
        """Return the values; operations without any answer count as errors."""
        seconds = max(self.end - self.start, 1e-9)
        latencies = sorted(self._latencies)
        bad = self._bad + self.unanswered
        return {
            "operations_per_s": round(self._answered / seconds, 3),
            "tokens_per_s": round(self._tokens / seconds, 1),
            "operations": len(latencies) + bad,
            "errors": bad,
            "latency_ms": {q: round(quantile(latencies, int(q[1:]) / 100), 2) for q in QUANTILES},
            **self._resources(),
        }

    def _resources(self) -> dict[str, Any]:
        cpu = {name: fmean(values) for name, values in self._each["process_cpu"].items()}
        machine = cpu.pop(MACHINE, 0.0)
        workers, others = _sum_of(self._each["worker_cpu"], fmean), sum(cpu.values())
        return {
            "worker_cpu": round(workers, 3),
            "other_cpu": round(others, 3),
            "foreign_cpu": round(max(0.0, machine - workers - others), 3),
            "load_cpu": round(_busiest(cpu, "load-"), 3),
            "redis_cpu": round(_busiest(cpu, "redis-"), 3),
            "late_ms": round(quantile(sorted(self._series["late_ms"]), 0.95), 1),
            "worker_rss": _sum_of(self._each["worker_rss"], median),
            "redis_memory": max(map(median, self._each["redis_memory"].values()), default=0.0),
            "connections": max(map(max, self._each["worker_connections"].values()), default=0),
            "node_connections": int(max(self._series["node_connections"], default=0)),
            "sockets": int(_sum_of(self._each["sockets"], median)),
        }


def _busiest(cpu: dict[str, float], prefix: str) -> float:
    """Return the greatest share of one process of a kind: the busiest one limits."""
    return max((share for name, share in cpu.items() if name.startswith(prefix)), default=0.0)


def _sum_of(each: dict[Any, list[float]], one: Any) -> float:
    return float(sum(one(values) for values in each.values()))
