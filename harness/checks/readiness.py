"""What `/ready` is worth: a worker that says yes does what it is there for."""

from __future__ import annotations

import bisect
from collections import defaultdict

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, missing_workers
from harness.checks.tasks import EFFECTIVE
from harness.history.records import Record
from harness.targets.base import PROVIDER, READY

HTTP_OK = 200


class ReadyMeansWorking(Check):
    """A stop that never ends its task, on a worker that says `ready` all along, is a lie."""

    name = "ready-means-working"
    family = "liveness"
    sentence = "A worker that can no longer stop its tasks does not go on saying it is ready."
    needs = frozenset({READY, PROVIDER})
    kinds = frozenset({"ok", "stream", "sample"})
    ops = frozenset({"chat_start", "stop"})

    def __init__(self) -> None:
        self._owner: dict[str, int] = {}
        self._stops: dict[str, tuple[float, str]] = {}  # stream → acknowledged, id
        self._closed: dict[str, float | None] = {}  # None: the provider has it open
        self._answers: dict[int, list[tuple[float, int]]] = defaultdict(list)  # worker → t, status

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == "sample":
            if record["probe"] == "health" and record["path"] == "/ready":
                self._answers[record["worker"]].append((record["t"], record["status"]))
        elif kind == "stream":
            self._closed[record["stream"]] = record["t"] if record["event"] == "close" else None
        elif record["op"] == "chat_start":
            self._owner[record["invoke"]["stream"]] = record["invoke"]["worker"]
        elif record.get("state") in EFFECTIVE:
            self._stops.setdefault(record["invoke"]["stream"], (record["t"], record["id"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, refused = facts.bounds["ready_while_broken_s"], Worst(), 0
        thin = missing_workers(self._answers, facts.workers, "answer of /ready")
        for stream, (acked, identity) in self._stops.items():
            owner = self._owner.get(stream)
            if owner is None or stream not in self._closed:  # stopped before it ran anywhere
                continue
            closed = self._closed[stream] or end_of(facts)
            if closed - acked <= bound + facts.clock_error:
                continue
            answers = self._between(owner, acked, closed)
            if not answers:
                thin = f"worker {owner} was not asked while it ran {stream}, which was stopped"
            elif any(status != HTTP_OK for status in answers):
                refused += 1
            else:
                text = (
                    f"worker {owner} said it was ready {len(answers)} times while it ran {stream}"
                )
                late = closed - acked
                bad.add(late, f"{text}, stopped {late:.1f} s before", acked, identity)
        return decide(
            self,
            bad,
            0,
            "tasks could not be stopped on workers that said they were ready",
            thin or ("" if self._stops else "no acknowledged stop of a running task"),
            quantities={
                "stops": len(self._stops),
                "broken_and_said_so": refused,
                "broken_and_ready": bad.count,
            },
            bound=f"≤ {bound:g} s",
        )

    def _between(self, worker: int, start: float, end: float) -> list[int]:
        """Return the statuses that /ready answered in a stretch of time."""
        answers = self._answers[worker]
        first, last = (bisect.bisect_left(answers, (t, 0)) for t in (start, end))
        return [status for _, status in answers[first:last]]
