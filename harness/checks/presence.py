"""Who left is gone: pools of sessions and of models in use agree with reality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers
from harness.history.records import OK, Record
from harness.targets.base import PRESENCE

KILLS = frozenset({"worker-kill"})  # who is asked to end says goodbye for its guests


@dataclass(frozen=True)
class _Visit:
    """A guest's visit that has ended, in run seconds; `lost`: not by the guest's own will."""

    began: float
    left: float
    worker: int
    lost: bool
    id: str


class _Gone(Check):
    """Base: looks at what a guest's visit leaves behind, long enough after its end."""

    family = "connections"
    needs = frozenset({PRESENCE})
    kinds = frozenset({OK})
    field: ClassVar[str]  # what it says
    words: ClassVar[str]

    def __init__(self) -> None:
        self._visits: dict[str, _Visit] = {}  # by guest
        self._seen: set[str] = set()  # guests who were shown while they were there
        self._after: list[tuple[str, float, int, bool, str]] = []  # guest, sent, worker, there, id

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        guest = asked["guest"]
        if record["op"] == "visit":
            times, lost = (asked["t"], record["t"]), bool(record.get("lost"))
            self._visits[guest] = _Visit(*times, asked["worker"], lost, record["id"])
        elif guest in self._visits:
            there = bool(record[self.field])
            self._after.append((guest, asked["t"], asked["worker"], there, record["id"]))
        elif record[self.field]:
            self._seen.add(guest)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad = facts.bounds["presence_gone_s"], Worst()
        judged: set[tuple[str, int]] = set()  # guests, and workers who were asked in time
        for guest, sent, worker, there, identity in self._after:
            visit = self._visits[guest]
            if sent > facts.due_by(visit.left, bound) or not there:
                judged.add((guest, worker))
            if there and sent > facts.due_by(visit.left, bound):
                late = sent - visit.left
                text = f"worker {worker}: {guest} {self.words} {late:.1f} s after leaving"
                bad.add(late, text, sent, visit.id, identity)
        proven = {(guest, worker) for guest, worker in judged if guest in self._seen}
        killed = self._with_killed_worker(facts, proven)
        return decide(
            self,
            bad,
            0,
            f"times a guest who had left {self.words}",
            _thin(facts, proven, killed),
            quantities={
                "visits": len(self._visits),
                "shown_while_there": len(self._seen),
                "looked_for_afterwards": len({guest for guest, _ in judged}),
                "of_killed_workers": len(killed),
                "lingering_looks": bad.count,
            },
            bound=f"≤ {bound:g} s",
        )

    def _with_killed_worker(self, facts: Facts, proven: set[tuple[str, int]]) -> set[str]:
        """Return whose socket died with its worker, and who was looked for on another one."""
        found = set()
        for guest, asked in proven:
            visit = self._visits[guest]
            other = asked != visit.worker or facts.workers == 1
            if other and visit.lost and facts.ruled(KILLS, visit.worker, visit.began, visit.left):
                found.add(guest)
        return found


def _thin(facts: Facts, proven: set[tuple[str, int]], killed: set[str]) -> str:
    """Return why the looks prove too little; empty when they prove enough."""
    if not proven:
        return "no guest was shown as there and looked for afterwards"
    if not killed and any(fault.kind in KILLS for fault in facts.faults):
        return (
            "no guest was shown as there on a worker that was killed, "
            "and looked for afterwards on another one"
        )
    asked = {worker for _, worker in proven}
    return missing_workers(asked, facts.workers, "look for a guest who had left")


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
