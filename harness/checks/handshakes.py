"""Handshakes of clients that can only poll: a session is whole, or it is refused at once."""

from __future__ import annotations

from collections import Counter

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, spread
from harness.history.records import Record
from harness.verdict import Verdict


class HandshakesKept(Check):
    """Who was let in by long polling is connected; an unsupported transport is refused at once."""

    name = "handshakes-kept"
    family = "connections"
    sentence = "A client that may only poll gets a connection, or is refused at once: never half."
    kinds = frozenset({"ok", "fail", "info"})
    ops = frozenset({"poll_connect"})

    def __init__(self) -> None:
        self._states: Counter[str] = Counter()
        self._took: list[float] = []
        self._failed: list[tuple[float, float, str, str]] = []  # sent, ended, id, what

    def feed(self, record: Record) -> None:
        """Fold one record."""
        sent = record["invoke"]["t"]
        if record["k"] == "ok":
            self._states[record["state"]] += 1
            self._took.append(record["t"] - sent)
            return
        what = f"{record.get('error', '')}: {record.get('text', '')}"
        self._failed.append((sent, record["t"], record["id"], what))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; it applies when the scenario has such clients."""
        if not self._states and not self._failed:
            reason = "the scenario has no clients that can only poll"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)
        bad, during, grace = Worst(), 0, facts.bounds["recovery_s"]
        for sent, ended, identity, what in self._failed:
            if sent not in facts.load or ended > facts.load.end:
                continue  # the run's own end cut it
            if facts.fault_over(sent - grace, ended):
                during += 1
                continue
            bad.add(sent, f"a client that only polls was cut: {what}", sent, identity)
        return decide(
            self,
            bad,
            0,
            "clients were let in and then cut off",
            "" if self._states or bad.count else "no client had an answer outside faults",
            quantities={
                "connected": self._states["connected"],
                "refused": self._states["refused"],
                "cut": bad.count,
                "failed_during_faults": during,
                **spread("connected_s", self._took),
            },
            bound="0 cut",
        )
