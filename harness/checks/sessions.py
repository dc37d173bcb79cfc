"""Sessions: sign-ins and sign-outs that every worker honours, session data that is not lost."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import Record
from harness.targets.base import SESSION_DATA


class SignInHonoured(Check):
    """Probes of tokens that nobody signed out must be answered as alive."""

    name = "sign-in-honoured"
    family = "sessions"
    sentence = "A signed-in user is recognised by every worker until signing out."
    kinds = frozenset({"invoke", "ok"})
    ops = frozenset({"token_probe", "me", "sign_out"})

    def __init__(self) -> None:
        self._left: set[str] = set()  # tokens whose sign-out was at least sent
        self._answers: dict[int, int] = defaultdict(int)
        self._bad = Worst()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "invoke":
            if record["op"] == "sign_out":
                self._left.add(record["token"])
            return
        asked = record["invoke"]
        if record["op"] == "sign_out" or asked["token"] in self._left:
            return
        worker = record.get("worker", asked["worker"])  # in the answer if the balancer chose it
        self._answers[worker] += 1
        if not record["alive"]:
            text = f"worker {worker} refused {asked['token']}, which was never signed out"
            self._bad.add(0, text, record["t"], record["id"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        return decide(
            self,
            self._bad,
            0,
            "answers refused a valid token",
            missing_workers(self._answers, facts.workers, "answer about a valid token"),
            quantities={"answers": sum(self._answers.values()), "refused": self._bad.count},
            bound="0 refused",
        )


@dataclass
class _SignOut:
    """One acknowledged sign-out: its id, when it was acknowledged, and the probes since."""

    id: str
    acked: float
    dead: dict[int, float]  # worker → first answer that the token is dead
    alive: dict[int, tuple[float, str]]  # worker → last probe answered as alive: sent, id
    undone: list[tuple[float, int, str]]  # alive after it had been dead: t, worker, id
    final: set[int]


class _SignOuts(Check):
    """Base: follows every acknowledged sign-out through its probes."""

    family = "sessions"
    kinds = frozenset({"ok"})
    ops = frozenset({"token_probe", "sign_out"})

    def __init__(self) -> None:
        self._outs: dict[str, _SignOut] = {}

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        if record["op"] == "sign_out":
            out = _SignOut(record["id"], record["t"], {}, {}, [], set())
            self._outs.setdefault(asked["token"], out)
            return
        found = self._outs.get(asked["token"])
        if found is not None and asked["t"] >= found.acked:
            _take(found, record, asked)


def _take(out: _SignOut, record: Record, asked: Record) -> None:
    worker, t = asked["worker"], asked["t"]
    if asked.get("when") == "final":
        out.final.add(worker)
    if not record["alive"]:
        out.dead.setdefault(worker, record["t"])
        return
    out.alive[worker] = max((t, record["id"]), out.alive.get(worker, (t, "")))
    if worker in out.dead and t > out.dead[worker]:
        out.undone.append((record["t"], worker, record["id"]))


class SignOutHonoured(_SignOuts):
    """No worker may accept the token later than the bound after the acknowledgement."""

    name = "sign-out-honoured"
    sentence = "A signed-out token is refused by every worker soon after the sign-out was answered."

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound = facts.bounds["sign_out_honoured_s"]
        bad, times, unproven = Worst(), [], 0
        for token, out in self._outs.items():
            for worker in range(facts.workers):
                sent, probe = out.alive.get(worker, (0.0, ""))
                if worker in out.dead:
                    times.append(out.dead[worker] - out.acked)
                if sent > out.acked + bound + facts.clock_error:
                    late = sent - out.acked
                    text = f"worker {worker} still accepted {token} {late:.2f} s after its sign-out"
                    bad.add(late, text, sent, out.id, probe)
                elif worker not in out.dead:
                    unproven += 1
        return decide(
            self,
            bad,
            0,
            "times a worker accepted a token long after its acknowledged sign-out",
            _thin(self._outs, unproven, "no worker's refusal seen for {} token-worker pairs"),
            quantities={
                "sign_outs": len(self._outs),
                "accepted_late": bad.count,
                "unproven": unproven,
                **spread("refused_after_s", times),
            },
            bound=f"≤ {bound:g} s",
        )


class SignOutStays(_SignOuts):
    """A token that was refused must be refused for ever, whatever happens to Redis."""

    name = "sign-out-stays"
    sentence = "A signed-out token is never accepted again."

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, unproven = Worst(), 0
        for token, out in self._outs.items():
            for t, worker, probe in out.undone:
                bad.add(t, f"worker {worker} accepted {token} again", t, out.id, probe)
            unproven += facts.workers - len(out.final & out.dead.keys())
        return decide(
            self,
            bad,
            facts.bounds["sign_outs_undone"],
            "times a signed-out token was accepted again",
            _thin(self._outs, unproven, "no refusal, or no last look, at {} token-worker pairs"),
            quantities={"sign_outs": len(self._outs), "undone": bad.count, "unproven": unproven},
            bound=f"≤ {facts.bounds['sign_outs_undone']:g}",
        )


def _thin(outs: dict[str, Any], unproven: int, text: str) -> str:
    if not outs:
        return "no acknowledged sign-out"
    return text.format(unproven) if unproven else ""


_Write = tuple[int, float, str]  # value, when it was acknowledged, id of the operation
KEPT = 200  # acknowledged writes of one session: no failover undoes more


class SessionReadYourWrites(Check):
    """Counters grow: a read must show at least what was acknowledged before it was sent.

    A write is lost when any later read does not show it. It counts once, however many reads there
    are: so the number of lost writes and the time over which they were acknowledged tell how much
    a failover lost.
    """

    name = "session-read-your-writes"
    family = "sessions"
    sentence = "What a user saved in the session is there on every worker afterwards."
    needs = frozenset({SESSION_DATA})
    kinds = frozenset({"invoke", "ok", "fail", "info", "fault"})
    ops = frozenset({"session_write", "session_read"})

    def __init__(self) -> None:
        self._acked: dict[str, deque[_Write]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._lost: dict[tuple[str, int], float] = {}  # session and value → when acknowledged
        self._sent: dict[str, int] = {}
        self._floors: dict[str, _Write | None] = {}
        self._loss: dict[str, tuple[float, float]] = {}  # fault → injected, healed
        self._reads: dict[int, int] = defaultdict(int)
        self._excused = self._stale = 0
        self._bad = Worst()
        self._invented = Worst()  # shown and never sent: no failover explains that

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == "fault":
            self._fault(record)
        elif kind == "invoke":
            self._invoke(record)
        elif record["op"] == "session_read":
            floor = self._floors.pop(record["id"], None)
            if kind == "ok":
                self._read(record, floor)
        elif kind == "ok":
            self._written(record, record["invoke"])

    def _fault(self, record: Record) -> None:
        if record["event"] == "inject" and record.get("loses_data"):
            self._loss[record["id"]] = (record["t"], float("inf"))
        elif record["event"] == "heal" and record["id"] in self._loss:
            self._loss[record["id"]] = (self._loss[record["id"]][0], record["t"])

    def _invoke(self, record: Record) -> None:
        session = record["session"]
        if record["op"] == "session_read":
            acked = self._acked.get(session)
            self._floors[record["id"]] = acked[-1] if acked else None
        else:
            self._sent[session] = max(record["value"], self._sent.get(session, record["value"]))

    def _written(self, record: Record, asked: Record) -> None:
        known = self._acked[asked["session"]]
        if not known or asked["value"] > known[-1][0]:
            known.append((asked["value"], record["t"], record["id"]))

    def _read(self, record: Record, floor: _Write | None) -> None:
        asked, value = record["invoke"], record["value"]
        session, worker = asked["session"], asked["worker"]
        self._reads[worker] += 1
        if value is not None and value > self._sent.get(session, -1):
            text = f"worker {worker} read {value} in {session}, which nobody had written"
            self._invented.add(value, text, record["t"], record["id"])
        if floor is None or (value is not None and value >= floor[0]):
            return
        if any(a <= record["t"] and floor[1] <= b for a, b in self._loss.values()):
            self._excused += 1
            return
        self._short(record, value, floor[0])

    def _short(self, record: Record, shown: int | None, floor: int) -> None:
        """Take a read that shows less than it should: what is missing is lost."""
        session, worker = record["invoke"]["session"], record["invoke"]["worker"]
        self._stale += 1
        for value, t, write in self._acked[session]:
            if (
                (shown is None or shown < value)
                and value <= floor
                and (session, value) not in self._lost
            ):
                self._lost[session, value] = t
                text = f"worker {worker} read {shown} in {session} after {value} was acknowledged"
                self._bad.add(value - (shown or 0), text, record["t"], write, record["id"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        thin = missing_workers(self._reads, facts.workers, "session read")
        times, invented = self._lost.values(), self._invented.count
        return decide(
            self,
            self._invented if invented else self._bad,
            0 if invented else facts.bounds["sessions_lost"],
            "session reads showed what nobody had written"
            if invented
            else "session writes were acknowledged and not shown later",
            thin or ("" if self._acked else "no acknowledged session write"),
            quantities={
                "reads": sum(self._reads.values()),
                "lost": len(self._lost),
                "lost_over_s": round(max(times, default=0.0) - min(times, default=0.0), 2),
                "stale_reads": self._stale,
                "never_written": invented,
                "excused_after_data_loss": self._excused,
            },
            bound=f"≤ {facts.bounds['sessions_lost']:g} lost",
        )


class SessionIsOwn(Check):
    """Every session names its owner: an answer with another's name is somebody else's data."""

    name = "session-is-own"
    family = "sessions"
    sentence = "No user is ever shown what another user saved."
    needs = frozenset({SESSION_DATA})
    kinds = frozenset({"ok"})
    ops = frozenset({"session_read"})

    def __init__(self) -> None:
        self._named: dict[int, int] = defaultdict(int)  # worker → reads that named an owner
        self._bad = Worst()

    def feed(self, record: Record) -> None:
        """Fold one record; a session that holds nothing names nobody."""
        owner, asked = record.get("owner"), record["invoke"]
        if owner is None:
            return
        self._named[asked["worker"]] += 1
        if owner != asked["session"]:
            text = f"worker {asked['worker']} showed {asked['session']} the session of {owner}"
            self._bad.add(record["t"], text, record["t"], record["id"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        return decide(
            self,
            self._bad,
            0,
            "session reads showed another user's data",
            missing_workers(self._named, facts.workers, "session read that names its owner"),
            quantities={"reads": sum(self._named.values()), "of_others": self._bad.count},
            bound="0 of others",
        )
