"""Traces: whoever follows one gets from the request to Redis, and to the other worker.

The load begins the trace of every sampled operation, so what is missing is known from outside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import Record
from harness.targets.base import TRACES

REDIS_OPERATIONS = frozenset({"list_tasks", "session_read", "session_write"})
WITHOUT_REDIS = frozenset({"stop"})  # accepted also while Redis is away
EXPORTED_S = 2.0  # by then a worker has sent its spans: one that dies earlier may not have
LISTENING = frozenset({"requested", "cancelled"})  # states of stops that had to reach the owner


@dataclass(frozen=True)
class Traced:
    """An acknowledged operation that has a trace. Times in run seconds."""

    id: str
    op: str
    trace: str
    worker: int | None  # that answered
    sent: float
    done: float
    state: str = ""  # what a stop answered

    @property
    def needs_redis(self) -> bool:
        """Tell whether it cannot be answered by the database: a stop of what has ended can."""
        stops = self.op == "stop"
        return self.state in LISTENING if stops else self.op in REDIS_OPERATIONS


@dataclass
class Spans:
    """What is kept of one trace."""

    ids: set[str] = field(default_factory=set)
    servers: set[int] = field(default_factory=set)  # workers with a span of a request
    redis: list[tuple[str, str]] = field(default_factory=list)  # parent, host:port
    received: dict[int, float] = field(default_factory=dict)  # worker → its first consumer span
    parents: dict[int, str] = field(default_factory=dict)  # worker → that span's parent

    def take(self, record: Record) -> None:
        """Keep a span."""
        worker, attributes = record.get("worker", -1), record["attributes"]
        self.ids.add(record["span"])
        if record["kind"] == "server":
            self.servers.add(worker)
        elif attributes.get("db.system.name") == "redis":
            address = f"{attributes.get('server.address')}:{attributes.get('server.port')}"
            self.redis.append((record["parent"], address))
        elif record["kind"] == "consumer" and self._earlier(worker, record["t0"]):
            self.received[worker], self.parents[worker] = record["t0"], record["parent"]

    def _earlier(self, worker: int, t: float) -> bool:
        """Tell whether a span is its worker's first; its parent is then the sender's span."""
        return t < self.received.get(worker, float("inf"))


class TraceCheck(Check):
    """Gathers traced operations and the spans of their traces."""

    family = "telemetry"
    needs = frozenset({TRACES})
    kinds = frozenset({"ok", "span", "sample"})
    judged_ops: ClassVar[frozenset[str]] = frozenset()  # empty: all
    failed: ClassVar[str]
    what: ClassVar[str]

    def __init__(self) -> None:
        self._traced: list[Traced] = []
        self._traces: dict[str, Spans] = defaultdict(Spans)
        self._collector: dict[str, int] = {}
        self.counts: Counter[str] = Counter()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "span":
            self._traces[record["trace"]].take(record)
        elif record["k"] == "sample":
            if record["probe"] == "collector":
                self._collector = record
        else:
            self._operation(record)

    def _operation(self, record: Record) -> None:
        asked = record["invoke"]
        if (trace := asked.get("trace")) is None:
            return
        if not self.judged_ops or asked["op"] in self.judged_ops:
            worker = record.get("worker", asked.get("worker"))
            times, state = (asked["t"], record["t"]), str(record.get("state", ""))
            self._traced.append(Traced(record["id"], asked["op"], trace, worker, *times, state))
        self.remember(record, asked)

    def remember(self, record: Record, asked: Record) -> None:
        """Keep what else the check needs of an acknowledged operation."""

    @abstractmethod
    def problem(self, traced: Traced, spans: Spans, facts: Facts) -> str | None:
        """Return what is wrong with a trace, "" when nothing is, None when it does not count."""

    def more(self) -> dict[str, Any]:
        """Return further quantities."""
        return {}

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; spans that were not kept make it unknown."""
        bad, judged = Worst(), Counter[int | None]()
        for traced, problem in self._problems(facts):
            judged[traced.worker] += 1
            if problem:
                text = f"{traced.op} on worker {traced.worker}: {problem} (trace {traced.trace})"
                bad.add(traced.done - traced.sent, text, traced.sent, traced.id)
        unkept = {n: c for n in ("dropped", "refused") if (c := self._collector.get(n, 0))}
        unknown = self._doubt(judged, unkept, facts)
        quantities = {"traces": judged.total(), "broken": bad.count, **self.counts, **self.more()}
        said = {"quantities": quantities | unkept, "bound": "0 broken"}
        return decide(self, Worst() if unkept else bad, 0, self.failed, unknown, **said)

    def _doubt(self, judged: Counter[int | None], unkept: dict[str, int], facts: Facts) -> str:
        """Return why the evidence is thin, or nothing."""
        if not self._collector:
            return "the run's collector counted nothing"
        if unkept:
            words = " and ".join(f"{count} {name}" for name, count in unkept.items())
            return f"not all spans were kept: {words} (`telemetry.max_spans`, `sample`)"
        seen = (worker for worker in judged if worker is not None)
        return missing_workers(seen, facts.workers, self.what)

    def _problems(self, facts: Facts) -> Iterator[tuple[Traced, str]]:
        nothing = Spans()
        for traced in self._traced:
            spans = self._traces.get(traced.trace, nothing)
            found = self.problem(traced, spans, facts)
            if found is None:
                continue
            if found and self.lost(facts, traced, traced.worker):
                self.counts["died_before_export"] += 1
                continue
            yield traced, found

    def lost(self, facts: Facts, traced: Traced, worker: int | None) -> bool:
        """Tell whether a worker's spans may have died with it: of a fault, or at the run's end."""
        sent_by = traced.done + EXPORTED_S
        if sent_by > end_of(facts):
            return True
        return worker is not None and facts.away(worker, traced.sent, sent_by)


class TracesReachRedis(TraceCheck):
    """Every request has its span; one that needed Redis has the commands' spans below it."""

    name = "traces-reach-redis"
    sentence = "The trace of every request goes down to its commands to Redis, on every server."
    failed = "requests whose trace is missing, or ends before Redis"
    what = "trace of an acknowledged request"

    def __init__(self) -> None:
        super().__init__()
        self._nodes: set[str] = set()

    def problem(self, traced: Traced, spans: Spans, facts: Facts) -> str | None:
        """Look for the request's own span, then for its commands to Redis."""
        if not spans.servers:
            return "no span of the request"
        if traced.worker is not None and traced.worker not in spans.servers:
            return f"its span is of worker {', '.join(map(str, sorted(spans.servers)))}"
        if strange := self._strange(spans, facts):
            return strange
        if spans.redis:
            self.counts["with_redis"] += 1
        elif traced.needs_redis:
            return self._without(traced, facts)
        return ""

    def _strange(self, spans: Spans, facts: Facts) -> str:
        """Return what is wrong with the commands' spans that are there."""
        known = getattr(facts, "redis_addresses", ())
        for parent, address in spans.redis:
            self._nodes.add(address)
            if parent not in spans.ids:
                return "a command to Redis hangs in the air, without its parent"
            if known and address not in known:
                return f"a command went to {address}, which is no server of the run"
        return ""

    def _without(self, traced: Traced, facts: Facts) -> str | None:
        grace = facts.bounds["recovery_s"]
        if traced.op in WITHOUT_REDIS and facts.fault_over(traced.sent - grace, traced.done):
            self.counts["without_redis_in_faults"] += 1
            return None
        return "no command to Redis"

    def more(self) -> dict[str, Any]:
        """Return how many Redis servers the spans name."""
        return {"servers_named": len(self._nodes)}


class CrossingCheck(TraceCheck):
    """A trace has to have a span of a worker that got a message of it."""

    def __init__(self) -> None:
        super().__init__()
        self._crossed: list[float] = []

    def crossing(self, traced: Traced, spans: Spans, worker: int, facts: Facts) -> str | None:
        """Return what is wrong with the receiver's span."""
        if worker not in spans.received:
            if self.lost(facts, traced, worker):
                self.counts["died_before_export"] += 1
                return None
            return f"no span of worker {worker}, which got the message"
        if spans.parents[worker] not in spans.ids:
            return f"the span of worker {worker} hangs in the air, without its parent"
        self._crossed.append(1000 * (spans.received[worker] - traced.sent))
        return ""

    def more(self) -> dict[str, Any]:
        """Return how long after the request the other worker's span began."""
        return spread("crossed_ms", self._crossed, 1)


class StopTraceCrosses(CrossingCheck):
    """The stop's trace has a span of the worker that ran the task."""

    name = "stop-trace-crosses"
    sentence = "The trace of a stop goes on on the worker that runs the task."
    judged_ops = frozenset({"stop"})
    failed = "stops whose trace ends before the task's worker"
    what = "trace of a stop that crossed workers"

    def __init__(self) -> None:
        super().__init__()
        self._owners: dict[str, int] = {}
        self._stops: dict[str, tuple[str, str]] = {}  # operation → stream, state

    def remember(self, record: Record, asked: Record) -> None:
        """Keep who runs which stream, and what stops answered."""
        if asked["op"] == "chat_start":
            owner = record.get("worker", asked["worker"])
            self._owners[asked["stream"]] = -1 if owner is None else owner
        elif asked["op"] == "stop":
            self._stops[record["id"]] = asked["stream"], record["state"]

    def problem(self, traced: Traced, spans: Spans, facts: Facts) -> str | None:
        """Look for the owner's span of a stop that another worker was asked for."""
        stream, state = self._stops[traced.id]
        owner = self._owners.get(stream)
        if owner is None or owner == traced.worker or state not in LISTENING:
            return None
        if facts.fault_over(traced.sent - facts.bounds["recovery_s"], traced.done):
            self.counts["during_faults"] += 1  # the database carries stops as well
            return None
        return self.crossing(traced, spans, owner, facts)


class AnswerTraceCrosses(CrossingCheck):
    """The trace of a chat has a span of the worker that holds the socket, when words got there."""

    name = "answer-trace-crosses"
    sentence = "The trace of an answer goes on on the worker that holds the user's socket."
    kinds = frozenset({"ok", "span", "sample", "run"})
    judged_ops = frozenset({"chat_start"})
    failed = "answers whose trace ends before the socket's worker"
    what = "trace of an answer that crossed workers"

    def __init__(self) -> None:
        super().__init__()
        self._sockets: dict[str, int] = {}
        self._chats: dict[str, tuple[str, str]] = {}  # operation → stream, socket
        self._arrived: dict[tuple[str, str], float] = {}  # stream, socket → its last word

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "run":
            self._arrived[record["stream"], record["socket"]] = record["t"]
        elif record["k"] == "ok" and record["op"] == "connect":
            self._sockets[record["invoke"]["socket"]] = record["invoke"]["worker"]
        else:
            super().feed(record)

    def remember(self, record: Record, asked: Record) -> None:
        """Keep where a stream's words go."""
        if asked["op"] == "chat_start":
            self._chats[record["id"]] = asked["stream"], asked["socket"]

    def problem(self, traced: Traced, spans: Spans, facts: Facts) -> str | None:
        """Look for the receiver's span of an answer that another worker writes."""
        chat = self._chats[traced.id]
        home = self._sockets.get(chat[1])
        if home is None or home == traced.worker or chat not in self._arrived:
            return None
        whole = replace(traced, done=max(traced.done, self._arrived[chat]))
        found = self.crossing(whole, spans, home, facts)
        if found and self.lost(facts, whole, traced.worker):  # an answer's span is sent at its end
            self.counts["died_before_export"] += 1
            return None
        return found
