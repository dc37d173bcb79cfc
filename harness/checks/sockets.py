"""Sockets of users: nobody is thrown off without cause, and who was comes back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from harness.checks.base import Check, Facts, FaultFact, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide, spread, tab_of
from harness.history.records import Record


@dataclass(frozen=True)
class _Socket:
    """One connection of a user, as it was asked for."""

    user: int
    worker: int
    id: str


class SocketsKept(Check):
    """A socket is lost only with its worker or the balancer; its user is back soon after."""

    name = "sockets-kept-and-back"
    family = "connections"
    sentence = "No user loses the socket unless its worker or the balancer ends, and is soon back."
    kinds = frozenset({"ok", "socket"})
    ops = frozenset({"connect"})

    def __init__(self) -> None:
        self._sockets: dict[str, _Socket] = {}
        self._connected: dict[str, list[float]] = defaultdict(list)  # tab → when
        self._lost: list[tuple[float, str, str]] = []  # when, socket, reason

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "socket":
            # the canaries' own sockets are not of users, and are judged by deaf time
            if record["event"] == "lost" and record["socket"] in self._sockets:
                self._lost.append((record["t"], record["socket"], record["reason"]))
            return
        asked = record["invoke"]
        self._sockets[asked["socket"]] = _Socket(asked["user"], asked["worker"], record["id"])
        self._connected[tab_of(asked["socket"])].append(record["t"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        told = _Told(facts)
        lost = [found for found in self._lost if found[0] <= end_of(facts)]
        for t, name, reason in lost:
            socket = self._sockets[name]
            cause = _cause(facts, socket.worker, t)
            if cause is None:
                text = f"{name} on worker {socket.worker} was lost: {reason}"
                told.bad.add(0, text, t, socket.id)
            else:
                told.take(name, socket, t, self._back(tab_of(name), t), cause)
        return decide(
            self,
            told.bad,
            0,
            "sockets were lost without cause, or their users came back late",
            told.thin or ("" if self._sockets else "no socket was opened"),
            quantities={
                "sockets": len(self._sockets),
                "lost": len(lost),
                "came_back": len(told.back),
                **spread("back_after_s", told.back),
            },
            bound=f"0 lost without cause; back within {told.bound:g} s of the heal",
        )

    def _back(self, tab: str, lost: float) -> float | None:
        """Return when the tab was back; None when that never was."""
        return min((t for t in self._connected[tab] if t > lost), default=None)


class _Told:
    """What became of the users whose sockets a fault closed; `thin` says why nothing is proven."""

    def __init__(self, facts: Facts) -> None:
        self.bound = facts.bounds["sockets_back_s"]
        self.bad = Worst()
        self.back: list[float] = []
        self.thin = ""
        self._facts = facts

    def take(
        self, name: str, socket: _Socket, t: float, back: float | None, cause: FaultFact
    ) -> None:
        """Take one lost socket and when its user was back, if ever."""
        due = self._facts.due_by(cause.window.end, self.bound)
        if back is not None:
            after = max(0.0, back - cause.window.end)
            self.back.append(after)
            if back > due:
                text = f"{name}: its user was back {after:.1f} s after the heal"
                self.bad.add(after, text, t, socket.id)
        elif end_of(self._facts) < due:
            self.thin = f"the run ended before user {socket.user} could come back"
        else:
            self.bad.add(float("inf"), f"{name}: its user never came back", t, socket.id)


def _cause(facts: Facts, worker: int, t: float) -> FaultFact | None:
    """Return the fault that closes sockets of this worker at `t` by design."""
    return next((f for f in facts.faults if f.closes(worker) and t in f.window), None)
