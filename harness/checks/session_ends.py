"""Sessions that were ended: nothing that was under way at that moment may bring them back."""

from __future__ import annotations

from collections import Counter

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers
from harness.history.records import FAIL, INVOKE, OK, Record
from harness.targets.base import SESSION_DATA


class SessionStaysRemoved(Check):
    """Who comes with the cookie of an ended session finds nothing of it."""

    name = "session-stays-removed"
    family = "sessions"
    sentence = "A session that was signed out never comes back, whatever was under way."
    needs = frozenset({SESSION_DATA})
    kinds = frozenset({OK, FAIL, INVOKE})
    ops = frozenset({"session_end", "session_late", "session_again"})

    def __init__(self) -> None:
        self._late: dict[str, float] = {}  # session → when its slow request was sent
        self._ended: dict[str, tuple[str, bool]] = {}  # session → sign-out's id, overtaking?
        self._looks: Counter[int] = Counter()
        self._bad = Worst()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        op = record["op"]
        if record["k"] == INVOKE:
            if op == "session_late":
                self._late[record["session"]] = record["t"]
            return
        asked = record["invoke"]
        session = asked["session"]
        if op == "session_late":
            self._late.pop(session, None)
        elif record["k"] == FAIL:
            return
        elif op == "session_end":
            self._ended[session] = (record["id"], session in self._late)
        elif session in self._ended:
            self._again(record, asked, session)

    def _again(self, record: Record, asked: Record, session: str) -> None:
        self._looks[asked["worker"]] += 1
        if record["value"] is not None:
            text = f"worker {asked['worker']} still has {record['value']} in {session}"
            self._bad.add(record["t"], text, record["t"], self._ended[session][0], record["id"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        overtaken = sum(overtook for _, overtook in self._ended.values())
        thin = missing_workers(self._looks, facts.workers, "look for an ended session")
        if not overtaken:
            thin = "no sign-out overtook a request of its session"
        return decide(
            self,
            self._bad,
            0,
            "looks found a session that had been signed out",
            thin,
            quantities={
                "ended": len(self._ended),
                "overtook_a_request": overtaken,
                "looks": self._looks.total(),
                "came_back": self._bad.count,
            },
            bound="0 sessions",
        )
