"""Tasks: stops that stop, lists that tell the truth. The provider's streams are the truth."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, spread
from harness.history.records import Record
from harness.targets.base import PROVIDER, STOP_STATES

TRUTH_SLACK_S = 0.5  # the provider may see a close this much later than the target knew of it
LISTED_SLACK_S = 1.0  # a list says nothing about streams that open or close this near to it
STARTS_S = 5.0  # an acknowledged chat has reached the provider by then
FINISHED = "finished"  # how a stream ends that nobody stopped
EFFECTIVE = frozenset({"requested", "cancelled"})
Stop = tuple[float, float, str, str]  # sent, acknowledged, state, operation


@dataclass
class _Stream:
    """One provider stream; `closed` is None while it is open."""

    opened: float
    closed: float | None = None
    cause: str = ""
    again: int = 0  # further openings: a target that retried


class _Streams(Check):
    """Base: keeps the provider's view of every stream."""

    family = "tasks"
    needs = frozenset({PROVIDER})

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def feed(self, record: Record) -> None:
        """Fold one record: of a stream, or of an operation."""
        if record["k"] == "stream":
            self._provider(record)
        else:
            self._operation(record)

    @abstractmethod
    def _operation(self, record: Record) -> None: ...

    def _provider(self, record: Record) -> None:
        stream = self._streams.get(record["stream"])
        if record["event"] == "close":
            if stream is not None:
                stream.closed, stream.cause = record["t"], record["cause"]
        elif stream is None:
            self._streams[record["stream"]] = _Stream(record["t"])
        else:
            stream.closed, stream.again = None, stream.again + 1


@dataclass
class _Ends:
    """How the streams of acknowledged stops ended; delays in seconds after the acknowledgement."""

    bad: Worst = field(default_factory=Worst)
    delays: list[float] = field(default_factory=list)
    undecided: int = 0
    unopened: int = 0
    during: int = 0
    early: int = 0  # of the bad: acknowledged before the provider saw the stream open
    over: int = 0  # ended by themselves, or before the stop was sent: no proof that it works

    def add(self, facts: Facts, name: str, stop: Stop, stream: _Stream | None) -> None:
        """Judge one stop by what the provider saw of its stream."""
        sent, acked, _, identity = stop
        limit, in_fault = _limit(facts, sent, acked)
        self.during += in_fault
        if stream is None:
            self.unopened += 1
        elif stream.closed is not None and stream.closed <= limit:
            if stream.cause == FINISHED or stream.closed < sent:
                self.over += 1
                return
            self.delays.append(max(0.0, stream.closed - acked))
        elif stream.closed is None and end_of(facts) < limit:
            self.undecided += 1
        else:
            late = (stream.closed or end_of(facts)) - acked
            how = "still ran" if stream.closed is None else f"ended by {stream.cause}"
            text = f"stream {name} {how} {late:.2f} s after its stop was acknowledged"
            self.early += stream.opened > acked
            self.bad.add(late, text, acked, identity)


class StopEndsTask(_Streams):
    """The stream of an acknowledged stop must close within the bound."""

    name = "stop-ends-task"
    sentence = "An acknowledged stop ends the task on whichever worker it runs."
    kinds = frozenset({"ok", "stream"})
    ops = frozenset({"stop"})

    def __init__(self) -> None:
        super().__init__()
        self._stops: dict[str, tuple[float, float, str, str]] = {}  # sent, acked, state, id

    def _operation(self, record: Record) -> None:
        asked = record["invoke"]
        stop = (asked["t"], record["t"], record.get("state", ""), record["id"])
        known = self._stops.get(asked["stream"])
        if known is None or known[2] not in EFFECTIVE:
            self._stops[asked["stream"]] = stop

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        stops, seen = self._effective(facts), _Ends()
        for name, stop in stops.items():
            seen.add(facts, name, stop, self._streams.get(name))
        return decide(
            self,
            seen.bad,
            0,
            "acknowledged stops did not end their stream in time",
            self._thin(stops, seen),
            quantities={
                "stops": len(stops),
                "late_or_never": seen.bad.count,
                "before_its_stream": seen.early,
                "during_fault": seen.during,
                "never_opened": seen.unopened,
                "over_by_itself": seen.over,
                "undecided": seen.undecided,
                **spread("ended_after_s", seen.delays),
            },
            bound=(
                f"≤ {facts.bounds['stop_closes_stream_s']:g} s, during a fault "
                f"≤ {facts.bounds['stop_closes_after_heal_s']:g} s after its heal"
            ),
        )

    def _effective(self, facts: Facts) -> dict[str, Stop]:
        if STOP_STATES not in facts.capabilities:
            return self._stops
        return {name: stop for name, stop in self._stops.items() if stop[2] in EFFECTIVE}

    def _thin(self, stops: object, seen: _Ends) -> str:
        if not stops:
            return "no acknowledged stop of a running task"
        if not self._streams:
            return "the provider recorded no stream"
        if seen.undecided:
            return f"the run ended too early to judge {seen.undecided} stops"
        return "" if seen.delays else "no stop ended its task: all were over, or never ran"


def _limit(facts: Facts, sent: float, acked: float) -> tuple[float, bool]:
    """Return until when the stream must have closed, and whether a fault touches the stop."""
    until = acked + facts.bounds["stop_closes_stream_s"]
    limit = facts.delayed(sent, until, facts.bounds["stop_closes_after_heal_s"])
    return limit + facts.clock_error, facts.fault_over(sent, until) is not None


class StopIsTruthful(_Streams):
    """`finished` and `not_found` are only for streams that had ended."""

    name = "stop-is-truthful"
    sentence = "A stop that answers finished or not found is right: the task was over."
    needs = frozenset({STOP_STATES, PROVIDER})
    kinds = frozenset({"ok", "stream"})
    ops = frozenset({"stop"})

    def __init__(self) -> None:
        super().__init__()
        self._answers = 0
        self._over: list[tuple[float, str, str, str]] = []

    def _operation(self, record: Record) -> None:
        self._answers += 1
        if (state := record.get("state", "")) not in EFFECTIVE:
            self._over.append((record["t"], record["invoke"]["stream"], state, record["id"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad = Worst()
        for t, name, state, identity in self._over:
            stream = self._streams.get(name)
            if stream is None:
                continue
            ran = (stream.closed or end_of(facts)) - t
            if stream.closed is None or ran > TRUTH_SLACK_S + facts.clock_error:
                text = f"a stop of stream {name} answered {state}, and it ran on for {ran:.2f} s"
                bad.add(ran, text, t, identity)
        return decide(
            self,
            bad,
            0,
            "stops said that a running task was over",
            "" if self._answers else "no stop was answered",
            quantities={
                "stops": self._answers,
                "said_over": len(self._over),
                "wrong": bad.count,
            },
            bound="0 wrong",
        )


class FinishedUnlisted(_Streams):
    """A list sent long after the stream's end must be empty."""

    name = "finished-unlisted"
    sentence = "A finished task is soon no longer listed."
    kinds = frozenset({"ok", "stream"})
    ops = frozenset({"list_tasks"})

    def __init__(self) -> None:
        super().__init__()
        self._looks: list[tuple[float, float]] = []  # sent, closed of lists that were empty
        self._listed: list[tuple[float, float, str, str]] = []  # sent, closed, stream, id

    def _operation(self, record: Record) -> None:
        asked = record["invoke"]
        stream = self._streams.get(asked["stream"])
        if stream is None or stream.closed is None or asked["t"] < stream.closed:
            return
        if record["tasks"]:
            self._listed.append((asked["t"], stream.closed, asked["stream"], record["id"]))
        else:
            self._looks.append((asked["t"], stream.closed))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad = facts.bounds["tasks_unlisted_s"], Worst()
        for sent, closed, name, identity in self._listed:
            if sent > facts.due_by(closed, bound):
                text = f"stream {name} was listed {sent - closed:.2f} s after its end"
                bad.add(sent - closed, text, sent, identity)
        looks = len(self._looks) + bad.count
        return decide(
            self,
            bad,
            0,
            "lists held a task that had ended",
            "" if looks else "no list was asked for after a task's end, and its time to go",
            quantities={
                "lists": len(self._looks) + len(self._listed),
                "listed_late": bad.count,
            },
            bound=f"≤ {bound:g} s",
        )


class RunningListed(_Streams):
    """A list sent while the stream is open must hold a task."""

    name = "running-listed"
    sentence = "A running task is always listed, on every worker."
    kinds = frozenset({"invoke", "ok", "stream"})
    ops = frozenset({"list_tasks", "stop"})

    def __init__(self) -> None:
        super().__init__()
        self._stopped: set[str] = set()
        self._lists = 0
        self._empty: list[tuple[float, float, str, str]] = []  # sent, answered, stream, id

    def _operation(self, record: Record) -> None:
        if record["op"] == "stop":
            if record["k"] == "invoke":
                self._stopped.add(record["stream"])
        elif record["k"] == "ok":
            self._list(record, record["invoke"])

    def _list(self, record: Record, asked: Record) -> None:
        name = asked["stream"]
        stream = self._streams.get(name)
        if stream is None or stream.closed is not None or name in self._stopped:
            return
        if asked["t"] < stream.opened + LISTED_SLACK_S:
            return
        self._lists += 1
        if not record["tasks"]:
            self._empty.append((asked["t"], record["t"], name, record["id"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, during, grace = Worst(), 0, facts.bounds["recovery_s"]
        for sent, answered, name, identity in self._empty:
            closed = self._streams[name].closed
            if closed is not None and closed < answered + LISTED_SLACK_S:
                continue
            if facts.fault_over(sent - grace, answered):
                during += 1
                continue
            text = f"stream {name} was running and not listed"
            bad.add(0, text, answered, identity)
        return decide(
            self,
            bad,
            0,
            "lists did not hold a running task",
            "" if self._lists else "no list was asked for while a task ran",
            quantities={
                "lists": self._lists,
                "not_listed": bad.count,
                "not_listed_during_fault": during,
            },
            bound="0 not listed outside faults",
        )


class NoUnexplainedEnd(_Streams):
    """A stream that the target closed, or never opened, needs a stop that was sent before."""

    name = "no-unexplained-end"
    sentence = "No task ends early unless somebody stopped it."
    kinds = frozenset({"invoke", "ok", "fail", "info", "stream"})
    ops = frozenset({"stop", "chat_start"})

    def __init__(self) -> None:
        super().__init__()
        self._stopped: dict[str, float] = {}
        self._unanswered: set[str] = set()  # its chat was never acknowledged
        self._acked: dict[str, tuple[float, str]] = {}  # when its chat was, and the operation
        self._worker: dict[str, int] = {}  # the worker that was asked, and so runs it

    def _operation(self, record: Record) -> None:
        if record["k"] == "invoke":
            if record["op"] == "stop":
                self._stopped.setdefault(record["stream"], record["t"])
            else:
                self._worker[record["stream"]] = record["worker"]
        elif record["op"] == "chat_start" and record["k"] == "ok":
            self._acked[record["invoke"]["stream"]] = (record["t"], record["id"])
        elif record["op"] == "chat_start":
            self._unanswered.add(record["invoke"]["stream"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, ended, died = Worst(), 0, 0
        for name, stream in self._streams.items():
            if stream.closed is None or stream.closed >= end_of(facts):
                continue
            ended += 1
            stopped = self._stopped.get(name, float("inf")) <= stream.closed
            if stream.cause == "finished" or stopped or name in self._unanswered:
                continue
            if facts.killed(self._worker.get(name, -1), stream.closed):
                died += 1
                continue
            text = f"stream {name} was closed after {stream.closed - stream.opened:.2f} s, unasked"
            bad.add(stream.closed, text, stream.closed, name)
        during = self._never_ran(facts, bad)
        return decide(
            self,
            bad,
            facts.bounds["tasks_unexplained"],
            "streams were closed early, or never opened, without a stop",
            "" if ended else "no stream ended",
            quantities={
                "ended": ended,
                "unexplained": bad.count,
                "died_with_worker": died,
                "never_ran_in_fault": during,
            },
            bound=f"≤ {facts.bounds['tasks_unexplained']:g}",
        )

    def _never_ran(self, facts: Facts, bad: Worst) -> int:
        """Add acknowledged chats that never reached the provider; return those a fault met."""
        during, grace = 0, facts.bounds["recovery_s"]
        for name, (acked, identity) in self._acked.items() if self._streams else ():
            due = acked + STARTS_S
            stopped = self._stopped.get(name, float("inf")) <= due
            if name in self._streams or stopped or due > end_of(facts):
                continue
            if facts.fault_over(acked - grace, due):
                during += 1
                continue
            bad.add(due, f"stream {name} was acknowledged and never ran", acked, name, identity)
        return during
