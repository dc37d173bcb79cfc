"""Answers: no request is left waiting, whatever its answer is."""

from __future__ import annotations

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, spread
from harness.history.records import NO_OUTCOME, Record


class RequestsEnd(Check):
    """The time from sending a request to its end: an answer, an error, or giving up."""

    name = "requests-end"
    family = "liveness"
    sentence = "Every request is answered in time, if only with an error, also while Redis hangs."
    kinds = frozenset({"ok", "fail", "info"})

    def __init__(self) -> None:
        # ended (None: the history has no end of it), sent, worker, operation, id
        self._asked: list[tuple[float | None, float, int | None, str, str]] = []

    def feed(self, record: Record) -> None:
        """Fold one record; `scheduled` does not count, for the target cannot know of it."""
        asked = record["invoke"]
        worker = asked.get("worker", asked.get("origin"))
        ended = None if record.get("error") == NO_OUTCOME else record["t"]
        self._asked.append((ended, asked["t"], worker, record["op"], record["id"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; a worker that a fault holds dead or stopped owes none."""
        bound, bad, times = facts.bounds["request_s"], Worst(), []
        for ended, sent, worker, op, identity in self._asked:
            took = (max(sent, end_of(facts)) if ended is None else ended) - sent
            times.append(took)
            if took <= bound or _away(facts, worker, sent, sent + took):
                continue
            text = f"{op} on worker {worker}: no answer for {took:.1f} s"
            bad.add(took, text, sent, identity)
        return decide(
            self,
            bad,
            0,
            f"requests took longer than {bound:g} s",
            "" if self._asked else "no request was sent",
            quantities={
                "requests": len(self._asked),
                **spread("ended_s", times),
            },
            bound=f"≤ {bound:g} s",
        )


def _away(facts: Facts, worker: int | None, start: float, end: float) -> bool:
    """Tell whether a fault on the asked worker, or on any the balancer may choose, touches it."""
    asked = range(facts.workers) if worker is None else (worker,)
    return any(facts.away(number, start, end) for number in asked)
