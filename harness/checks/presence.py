"""Who left is gone: pools of sessions and of models in use agree with reality."""

from __future__ import annotations

from typing import ClassVar

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers
from harness.history.records import OK, Record
from harness.targets.base import PRESENCE


class _Gone(Check):
    """Base: looks at what a guest's visit leaves behind, long enough after its end."""

    family = "connections"
    needs = frozenset({PRESENCE})
    kinds = frozenset({OK})
    field: ClassVar[str]  # what it says
    words: ClassVar[str]

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, str]] = {}  # guest → when, the visit's id
        self._seen: set[str] = set()  # guests who were shown while they were there
        self._after: list[tuple[str, float, int, bool, str]] = []  # guest, sent, worker, there, id

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        guest = asked["guest"]
        if record["op"] == "visit":
            self._left[guest] = (record["t"], record["id"])
        elif guest in self._left:
            there = bool(record[self.field])
            self._after.append((guest, asked["t"], asked["worker"], there, record["id"]))
        elif record[self.field]:
            self._seen.add(guest)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad = facts.bounds["presence_gone_s"], Worst()
        judged: set[tuple[str, int]] = set()  # guests, and workers who were asked in time
        for guest, sent, worker, there, identity in self._after:
            left, visit = self._left[guest]
            if sent > facts.due_by(left, bound) or not there:
                judged.add((guest, worker))
            if there and sent > facts.due_by(left, bound):
                late = sent - left
                text = f"worker {worker}: {guest} {self.words} {late:.1f} s after leaving"
                bad.add(late, text, sent, visit, identity)
        proven = {worker for guest, worker in judged if guest in self._seen}
        thin = "" if proven else "no guest was shown as there and looked for afterwards"
        return decide(
            self,
            bad,
            0,
            f"times a guest who had left {self.words}",
            thin or missing_workers(proven, facts.workers, "look for a guest who had left"),
            quantities={
                "visits": len(self._left),
                "shown_while_there": len(self._seen),
                "looked_for_afterwards": len({guest for guest, _ in judged}),
                "lingering_looks": bad.count,
            },
            bound=f"≤ {bound:g} s",
        )


class NobodyLingers(_Gone):
    """The session pool holds sockets that exist."""

    name = "nobody-lingers"
    sentence = "Who left is soon no longer shown as online, also when the worker was killed."
    ops = frozenset({"visit", "online_read"})
    field = "online"
    words = "was still shown as online"


class UsageEnds(_Gone):
    """The usage pool holds models that somebody uses."""

    name = "usage-ends"
    sentence = "A model that nobody uses any more is soon no longer shown as in use."
    ops = frozenset({"visit", "usage_read"})
    field = "in_use"
    words = "was still shown as using a model"
