"""One pass over a history → the time series, bars and marks that the report draws.

All times are seconds of load time: 0 is the start of warm-up. Counts live in buckets of 0.5 s.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.history.records import COMPLETIONS, Record

BUCKET_S = 0.5
DEAF_FROM_S = 0.5  # a canary that takes longer than this is drawn as deaf time
MAX_DRAWN = 4000  # points kept per list; what is left out is counted and said in the picture
MAX_RECORDS = 40  # records listed for one example
_NAMES = ("id", "stream", "token", "session")  # what an example may name
_STEPS = frozenset({"me", "chat_start", "sign_out"})  # what a step of the timetable sends first
_META = frozenset({"t", "k", "id", "op", "worker"})


@dataclass
class Bar:
    """A stretch of time with a label; `end` is None while it lasts."""

    start: float
    end: float | None
    label: str
    kind: str = ""
    detail: str = ""


@dataclass
class Mark:
    """An instant with a label."""

    t: float
    label: str
    kind: str = ""


@dataclass
class Operation:
    """One operation with its outcome; `done` is None when it never completed."""

    id: str
    op: str
    worker: Any
    sent: float
    done: float | None = None
    outcome: str = "open"
    args: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class Points:
    """A capped list of (t, value); `total` counts what was offered."""

    t: array[float] = field(default_factory=lambda: array("d"))
    value: array[float] = field(default_factory=lambda: array("d"))
    total: int = 0

    def add(self, t: float, value: float) -> None:
        """Keep a point while there is room."""
        self.total += 1
        if len(self.t) < MAX_DRAWN:
            self.t.append(t)
            self.value.append(value)

    def __iter__(self) -> Any:
        return zip(self.t, self.value, strict=True)


@dataclass
class Series:
    """Everything the report draws. Bucket keys are bucket numbers: t = number * BUCKET_S."""

    start: float = 0.0
    end: float = 0.0
    load_end: float | None = None
    outcomes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    latencies: dict[int, array[float]] = field(
        default_factory=lambda: defaultdict(lambda: array("d"))
    )
    errors: dict[tuple[str, str], Counter[int]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    operations: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    planned: Counter[int] = field(default_factory=Counter)  # steps of the timetable, when due
    sent: Counter[int] = field(default_factory=Counter)  # … when really sent
    deaf: dict[int, list[Bar]] = field(default_factory=dict)
    canary_s: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    workers: dict[str, dict[int, Points]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Points))
    )
    stalls: dict[int, Points] = field(default_factory=lambda: defaultdict(Points))
    roles: dict[str, list[Bar]] = field(default_factory=lambda: defaultdict(list))
    faults: list[Bar] = field(default_factory=list)
    switches: list[Mark] = field(default_factory=list)
    focus: list[Bar] = field(default_factory=list)
    phases: list[Bar] = field(default_factory=list)
    story: list[Mark] = field(default_factory=list)
    notes: list[Mark] = field(default_factory=list)
    wanted: dict[str, list[Operation | Record]] = field(default_factory=dict)
    slowest: list[Operation] = field(default_factory=list)  # of those that have a trace
    records: int = 0
    unreadable: int = 0  # records that could not be drawn
    origin: float = 0.0

    def quantile(self, number: int, q: float) -> float | None:
        """Return a bucket's latency quantile in ms; None when nothing succeeded in it."""
        values = self.latencies.get(number)
        if not values:
            return None
        ordered = sorted(values)
        return 1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class SeriesFold:
    """Folds records in time order; `wanted` names operations (or streams, tokens) to keep whole."""

    def __init__(self, origin: float = 0.0, wanted: Iterable[str] = ()) -> None:
        self.series = Series(origin=origin, wanted={name: [] for name in wanted})
        self._open: dict[str, tuple[float, str]] = {}
        self._timed: dict[str, float] = {}  # steps under way → when they were begun
        self._kept: dict[str, Operation] = {}
        self._posts: dict[int, dict[int, float]] = defaultdict(dict)
        self._heard: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
        self._fault_bars: dict[str, Bar] = {}
        self._handlers = {
            "invoke": self._invoke,
            "canary": self._canary,
            "fault": self._fault,
            "switch": self._switch,
            "role": self._role,
            "sample": self._sample,
            "stall": self._stall,
            "phase": self._phase,
            "focus": self._focus,
            "note": self._note,
            "exit": self._exit,
            **dict.fromkeys(COMPLETIONS, self._complete),
        }

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == "header":
            return
        series = self.series
        series.records += 1
        t = record["t"] - series.origin
        if t > series.end:
            series.end = t
        if handler := self._handlers.get(kind):
            try:
                handler(t, record)
            except (KeyError, TypeError, ValueError):  # a picture never costs the verdict
                series.unreadable += 1
        if series.wanted:
            self._keep(t, record)

    def finish(self) -> Series:
        """Close what is still open and return the series."""
        series = self.series
        series.start = min([bar.start for bar in series.phases if bar.kind == "warmup"], default=0)
        for bars in (series.phases, series.faults, series.focus, *series.roles.values()):
            for bar in bars:
                bar.end = series.end if bar.end is None else bar.end
        for sent, op in self._open.values():  # never answered: nobody knows
            series.outcomes[_bucket(sent)]["info"] += 1
            series.errors["info", "no answer recorded"][_bucket(sent)] += 1
            series.totals[op, "info"] += 1
        series.deaf = _deaf(self._posts, self._heard, series)
        return series

    def _invoke(self, t: float, record: Record) -> None:
        op = record["op"]
        self._open[record["id"]] = (_due(t, record, self.series.origin), op)
        self.series.operations[_bucket(t)][op] += 1
        if op in _STEPS and record.get("scheduled") is not None:
            self._timed[record["id"]] = t
        if op == "event_post" and "origin" in record and "n" in record:
            self._posts[record["origin"]][record["n"]] = t

    def _complete(self, t: float, record: Record) -> None:
        outcome, number = record["k"], _bucket(t)
        sent, op = self._open.pop(record["id"], (t, record.get("op", "?")))
        series = self.series
        self._step_sent(record)
        series.outcomes[number][outcome] += 1
        series.totals[op, outcome] += 1
        if outcome == "ok":
            series.latencies[number].append(t - sent)
        else:
            series.errors[outcome, error_code(record.get("error"))][number] += 1

    def _step_sent(self, record: Record) -> None:
        """Count a step when it was sent; one that had to wait for a connection says when."""
        begun = self._timed.pop(record["id"], None)
        if begun is not None:
            late = record["sent"] - self.series.origin if "sent" in record else begun
            self.series.sent[_bucket(late)] += 1

    def _canary(self, t: float, record: Record) -> None:
        at, origin, number = record["at"], record["origin"], record["n"]
        sent = record["sent"] - self.series.origin
        self._posts[origin].setdefault(number, sent)
        self._heard[origin, at].setdefault(number, t)
        slowest = self.series.canary_s[at]
        slowest[_bucket(t)] = max(t - sent, slowest.get(_bucket(t), 0.0))

    def _fault(self, t: float, record: Record) -> None:
        identity, event = record["id"], record["event"]
        bar = self._fault_bars.get(identity)
        if bar is None:
            bar = Bar(t, None, _fault_label(record), record.get("kind", ""))
            self._fault_bars[identity] = bar
            self.series.faults.append(bar)
        evidence = str(record.get("evidence") or record.get("text") or "")
        if event == "heal" or (event == "confirm_heal" and bar.end is None):
            bar.end = t
        if evidence:
            bar.detail = f"{bar.detail}; {evidence}".removeprefix("; ")
        words = _FAULT_WORDS.get(event, event)
        label = f"{words}: {bar.label}" + (f" — {evidence}" if evidence else "")
        self.series.story.append(Mark(t, label, "error" if event == "error" else "fault"))

    def _switch(self, t: float, record: Record) -> None:
        label = f"switch: {record.get('node', '?')} can serve ({record.get('why', '')})"
        self.series.switches.append(Mark(t, label))
        self.series.story.append(Mark(t, label, "switch"))

    def _role(self, t: float, record: Record) -> None:
        bars = self.series.roles[record["node"]]
        if bars and bars[-1].end is None:
            bars[-1].end = t
        if len(bars) < MAX_DRAWN:
            bars.append(Bar(t, None, str(record["role"]), str(record["role"])))

    def _sample(self, t: float, record: Record) -> None:
        if record.get("probe") not in ("worker", "health"):
            return
        worker = record.get("worker")
        for name in ("connections", "rss", "fds", "ms"):
            if worker is not None and isinstance(record.get(name), int | float):
                self.series.workers[name][worker].add(t, record[name])

    def _stall(self, t: float, record: Record) -> None:
        self.series.stalls[record["worker"]].add(t, record["ms"])

    def _phase(self, t: float, record: Record) -> None:
        phases, name = self.series.phases, str(record["name"])
        if phases:
            phases[-1].end = t
        phases.append(Bar(t, None, name, name))
        if name == "quiesce":
            self.series.load_end = t

    def _focus(self, t: float, record: Record) -> None:
        if record["event"] == "begin":
            self.series.focus.append(Bar(t, None, "focus load"))
        elif self.series.focus:
            self.series.focus[-1].end = t

    def _exit(self, t: float, record: Record) -> None:
        """Tell of a process that ended although nothing asked it to."""
        if not record.get("expected", False):
            said = f"{record.get('name', 'a process')} ended by itself: {record.get('status')}"
            self.series.story.append(Mark(t, said, "error"))

    def _note(self, t: float, record: Record) -> None:
        if len(self.series.notes) < MAX_DRAWN:
            level = str(record.get("level", "info"))
            self.series.notes.append(Mark(t, str(record.get("text", "")), level))

    def _keep(self, t: float, record: Record) -> None:
        """Keep the whole record when an example names it: operations as pairs, others as they are.

        An operation's completion is found by the id of its kept invocation.
        """
        if record["k"] in COMPLETIONS:
            if operation := self._kept.get(record["id"]):
                operation.done, operation.outcome = t, record["k"]
                operation.result = {k: v for k, v in record.items() if k not in _META}
            return
        wanted = self.series.wanted
        for key in _NAMES:
            if key in record and (kept := wanted.get(record[key])) is not None:
                if len(kept) >= MAX_RECORDS:
                    return
                kept.append(self._operation(t, record) if record["k"] == "invoke" else record)
                return

    def _operation(self, t: float, record: Record) -> Operation:
        args = {key: value for key, value in record.items() if key not in _META}
        operation = Operation(record["id"], record["op"], record.get("worker"), t, args=args)
        self._kept[operation.id] = operation
        return operation


_FAULT_WORDS = {
    "inject": "fault injected",
    "confirm": "fault confirmed",
    "heal": "healing",
    "confirm_heal": "healed",
    "error": "fault FAILED",
}


def planned_steps(timetable: Iterable[dict[str, Any]]) -> Counter[int]:
    """Return how many steps of a plan's timetable are due in each bucket."""
    return Counter(_bucket(step["t"]) for step in timetable)


def origin_of(records: Iterable[Record]) -> float:
    """Return the run time of load second 0, where warm-up (else load) begins; reads no further."""
    for record in records:
        if record["k"] == "phase" and record["name"] in ("warmup", "load"):
            return float(record["t"])
    return 0.0


def error_code(error: Any) -> str:
    """Return the short name of a recorded error."""
    if isinstance(error, dict):
        error = error.get("code") or error.get("name") or error
    return str(error or "unnamed")[:60]


def _due(t: float, record: Record, origin: float) -> float:
    """Return the time latency counts from: the scheduled start of an open-loop operation."""
    scheduled = record.get("scheduled")
    if isinstance(scheduled, float):
        return min(t, scheduled - origin)
    return t


def _bucket(t: float) -> int:
    return int(t // BUCKET_S)


def _fault_label(record: Record) -> str:
    what = record.get("name") or f"{record.get('kind', 'fault')} {record.get('target', '')}".strip()
    nodes = ", ".join(str(node) for node in record.get("nodes") or ())
    workers = ", ".join(f"w{worker}" for worker in record.get("workers") or ())
    return f"{what}" + (f" → {nodes}" if nodes else "") + (f" on {workers}" if workers else "")


def _deaf(
    posts: dict[int, dict[int, float]],
    heard: dict[tuple[int, int], dict[int, float]],
    series: Series,
) -> dict[int, list[Bar]]:
    """Return, per hearing worker, the merged stretches in which some canary was late or lost.

    A canary that was never heard makes the pair deaf until a later one from the same worker is.
    """
    until = series.load_end or series.end
    result: dict[int, list[Bar]] = {}
    for at in sorted({pair[1] for pair in heard} | set(posts)):
        bars = [
            bar
            for origin in posts
            for bar in _deaf_pair(posts[origin], heard.get((origin, at), {}), origin, until)
        ]
        result[at] = _merged(bars)
    return result


def _deaf_pair(
    posts: dict[int, float], heard: dict[int, float], origin: int, until: float
) -> list[Bar]:
    bars, next_heard = [], until
    for number in sorted(posts, reverse=True):
        arrived = heard.get(number)
        next_heard = min(next_heard, arrived) if arrived is not None else next_heard
        ends = next_heard if arrived is None else arrived
        if ends - posts[number] > DEAF_FROM_S and posts[number] <= until:
            bars.append(Bar(posts[number], ends, f"w{origin}", "lost" if arrived is None else ""))
    return bars


def _merged(bars: list[Bar]) -> list[Bar]:
    merged: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: bar.start):
        last = merged[-1] if merged else None
        if last and bar.start <= (last.end or 0):
            last.end = max(last.end or 0, bar.end or 0)
            last.label = ", ".join(sorted({*last.label.split(", "), bar.label}))
        else:
            merged.append(Bar(bar.start, bar.end, bar.label))
    return merged
