"""Liveness: loops do not stall, health answers, readiness is true, everything works again."""

from __future__ import annotations

from collections import Counter, defaultdict

from harness.checks.base import WORKER_FAULTS, Check, Facts, FaultFact, Finding
from harness.checks.facts import end_of, instants, measured, switches_of
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import Record
from harness.targets.base import PROCESSES, READY
from harness.verdict import Verdict

HTTP_OK, UNAVAILABLE = 200, 503
PAUSES = frozenset({"worker-pause"})
SILENT_S = 10.0  # a timer that reports twice a second, and a worker that starts again meanwhile


class LoopStall(Check):
    """The worst stall of every period on every worker."""

    name = "loop-stall"
    family = "liveness"
    sentence = "No worker's event loop is ever blocked for long."
    needs = frozenset({PROCESSES})
    kinds = frozenset({"stall"})

    def __init__(self) -> None:
        self._stalls: dict[int, list[tuple[float, float]]] = defaultdict(list)

    def feed(self, record: Record) -> None:
        """Fold one record."""
        self._stalls[record["worker"]].append((record["t"], record["ms"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, all_ms, seen = facts.bounds["loop_stall_ms"], Worst(), [], set()
        start = measured(facts).start
        for worker, stalls in self._stalls.items():
            for t, ms in stalls:
                if not start <= t <= end_of(facts):
                    continue
                if facts.ruled(PAUSES, worker, t - ms / 1000, t):  # it was not the loop's doing
                    continue
                seen.add(worker)
                all_ms.append(ms)
                if ms > bound:
                    bad.add(ms, f"worker {worker} stalled for {ms:.0f} ms", t)
        return decide(
            self,
            bad,
            0,
            f"stalls longer than {bound:g} ms",
            missing_workers(seen, facts.workers, "stall timer report") or self._silent(facts),
            quantities={"reports": len(all_ms), **spread("stall_ms", all_ms, 1)},
            bound=f"≤ {bound:g} ms",
        )

    def _silent(self, facts: Facts) -> str:
        """Tell which timer reported nothing any more: its loop may be blocked for good."""
        for worker, stalls in sorted(self._stalls.items()):
            held = [
                fault.window.end
                for fault in facts.faults
                if fault.kind in WORKER_FAULTS and worker in fault.workers
            ]
            last = max([t for t, _ in stalls] + held)
            if last < facts.load.end - SILENT_S:
                return f"the stall timer of worker {worker} reported nothing after {last:.0f} s"
        return ""


class _Asked(Check):
    """Base: what one path answered, per worker, during the load."""

    family = "liveness"
    kinds = frozenset({"sample"})
    path = ""

    def __init__(self) -> None:
        self._answers: list[tuple[float, int, int, float]] = []  # sent, worker, status, ms

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["probe"] == "health" and record["path"] == self.path:
            sent = record["sent"]
            self._answers.append((sent, record["worker"], record["status"], record["ms"]))

    def _during(self, facts: Facts) -> list[tuple[float, int, int, float]]:
        """Return the answers during the load; a worker that a fault holds owes none."""
        return [
            (t, worker, status, ms)
            for t, worker, status, ms in self._answers
            if t in measured(facts) and not facts.away(worker, t, t + ms / 1000)
        ]


class HealthAnswers(_Asked):
    """200 within the bound, at all times."""

    name = "health-answers"
    sentence = "Every worker answers /health quickly, also while Redis is away."
    path = "/health"

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, during = facts.bounds["health_ms"], Worst(), self._during(facts)
        for t, worker, status, ms in during:
            if status != HTTP_OK or ms > bound:
                text = f"/health of worker {worker}: status {status or 'none'} after {ms:.0f} ms"
                bad.add(ms, text, t)
        return decide(
            self,
            bad,
            0,
            "/health answers were late or wrong",
            missing_workers({a[1] for a in during}, facts.workers, "/health answer"),
            quantities={"answers": len(during), **spread("ms", (a[3] for a in during), 1)},
            bound=f"200 within {bound:g} ms",
        )


class ReadyTruthful(_Asked):
    """200 whenever nothing is broken; 200 or 503 while something is."""

    name = "ready-truthful"
    sentence = "/ready says yes when the worker can serve, and gives an honest answer otherwise."
    needs = frozenset({READY})
    path = "/ready"

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, during, not_ready = Worst(), self._during(facts), 0
        grace = facts.bounds["recovery_s"]
        for t, worker, status, ms in during:
            disturbed = facts.fault_over(t - grace, t + ms / 1000) is not None
            not_ready += status == UNAVAILABLE
            if status == HTTP_OK or disturbed:
                continue
            text = f"/ready of worker {worker} said {status or 'nothing'} with nothing broken"
            bad.add(t, text, t)
        return decide(
            self,
            bad,
            0,
            "/ready answers were not 200 with nothing broken",
            missing_workers({a[1] for a in during}, facts.workers, "/ready answer"),
            quantities={"answers": len(during), "said_not_ready": not_ready, "wrong": bad.count},
            bound="200 outside faults",
        )


class Recovery(Check):
    """Operations fail only during a fault, and not longer than the bound after the switch."""

    name = "recovery"
    family = "liveness"
    sentence = "Soon after a failover every operation succeeds again, and none fails without one."
    kinds = frozenset({"ok", "fail", "info"})

    def __init__(self) -> None:
        self._failed: list[tuple[float, float, str, str, str]] = []  # sent, ended, op, id, error
        self._ok: Counter[str] = Counter()
        self._last_ok: dict[str, float] = {}

    def feed(self, record: Record) -> None:
        """Fold one record."""
        op, asked = record["op"], record["invoke"]
        if record["k"] == "ok":
            self._ok[op] += 1
            self._last_ok[op] = max(asked["t"], self._last_ok.get(op, asked["t"]))
            return
        error = str(record.get("error", ""))
        self._failed.append((asked["t"], record["t"], op, record["id"], error))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bad, slowest, windows = Worst(), 0.0, _disturbed(facts)
        during = 0
        for sent, ended, op, identity, error in self._failed:
            if sent > facts.load.end:
                continue
            since = [t for t, _ in instants(facts) if t <= sent]
            after = sent - since[-1] if since else 0.0
            if any(sent <= b and ended >= a for a, b in windows):
                during += 1
                slowest = max(slowest, after)
                continue
            text = f"{op} failed ({error}) with nothing broken"
            bad.add(after, text, sent, identity)
        bound = facts.bounds["recovery_s"]
        return decide(
            self,
            bad,
            0,
            "operations failed outside faults or long after the switch",
            self._thin(facts),
            quantities={
                "succeeded": sum(self._ok.values()),
                "failed_during_faults": during,
                "failed_otherwise": bad.count,
                "last_failure_after_switch_s": round(slowest, 3),
            },
            bound=f"≤ {bound:g} s",
        )

    def _thin(self, facts: Facts) -> str:
        if not self._ok:
            return "no operation succeeded"
        last = max((t for t, _ in instants(facts)), default=0.0)
        under_load = [op for op, t in self._last_ok.items() if t >= facts.load.start]
        silent = sorted(op for op in under_load if self._last_ok[op] < last and op != "connect")
        return f"no {', '.join(silent)} succeeded after the last switch" if silent else ""


def _disturbed(facts: Facts) -> list[tuple[float, float]]:
    """Return when operations may fail: from each injection until the bound after its switch."""
    windows = []
    for fault in facts.faults:
        ends = switches_of(facts, fault) or [fault.window.end, *_late_switches(facts, fault)]
        until = max(ends)
        windows.append((fault.window.start, until + facts.bounds["recovery_s"]))
    return windows


def _late_switches(facts: Facts, fault: FaultFact) -> list[float]:
    """Return switches soon after a heal, while no other fault lasted: they are its doing."""
    until = fault.window.end + (0.0 if fault.workers else facts.bounds["recovery_s"])
    late = (t for t in facts.switches if fault.window.end < t <= until)
    return [t for t in late if facts.fault_over(t, t) is None]


class FaultsRiddenOut(Check):
    """Operations may be late while Redis is away, but fail no more often than the bound."""

    name = "faults-ridden-out"
    family = "liveness"
    sentence = "While Redis is slow or away for a moment, operations are late but do not fail."
    kinds = frozenset({"ok", "fail", "info"})

    def __init__(self) -> None:
        self._ended: list[tuple[float, float, str, str, str]] = []  # sent, ended, op, id, error

    def feed(self, record: Record) -> None:
        """Fold one record; the error of what succeeded is empty."""
        error = "" if record["k"] == "ok" else record.get("error", "unknown-error")
        sent = record["invoke"]["t"]
        self._ended.append((sent, record["t"], record["op"], record["id"], error))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; it applies when the scenario has faults and states the bound."""
        bound, windows = facts.bounds["failed_in_faults"], _disturbed(facts)
        if bound < 0 or not windows:
            reason = "the scenario states no bound `failed_in_faults`" if windows else "no fault"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)
        bad, served = Worst(), 0
        for sent, ended, op, identity, error in self._ended:
            if not any(sent <= b and ended >= a for a, b in windows):
                continue
            served += not error
            if error:
                text = f"{op} failed ({error}) after {ended - sent:.2f} s"
                bad.add(ended - sent, text, sent, identity)
        return decide(
            self,
            bad,
            bound,
            "operations failed during a fault that could have been ridden out",
            "" if served or bad.count else "no operation was under way during a fault",
            quantities={"served_meanwhile": served, "failed": bad.count},
            bound=f"≤ {bound:g} failed",
        )


class OthersUndisturbed(Check):
    """A fault aimed at some workers must not be felt on the others."""

    name = "others-undisturbed"
    family = "liveness"
    sentence = "While some workers are cut off, the others serve as if nothing happened."
    kinds = frozenset({"ok", "fail", "info"})

    def __init__(self) -> None:
        self._served: list[tuple[float, int]] = []  # sent, worker
        # sent, ended, worker, operation, error
        self._failed: list[tuple[float, float, int, str, str]] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        asked = record["invoke"]
        worker = asked.get("worker", asked.get("origin"))
        if worker is None:
            return
        if record["k"] == "ok":
            self._served.append((asked["t"], worker))
        else:
            error = f"{record['op']} failed ({record.get('error', '')})"
            self._failed.append((asked["t"], record["t"], worker, record["id"], error))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding; it applies when a fault spares some workers."""
        aimed = [f for f in facts.faults if 0 < len(f.workers) < facts.workers]
        if not aimed:
            reason = "no fault is aimed at some workers only"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)

        def spared(sent: float, worker: int) -> bool:
            return any(sent in f.window and worker not in f.workers for f in aimed)

        bad = Worst()
        for sent, ended, worker, identity, error in self._failed:
            if spared(sent, worker) and not _hit(facts, worker, sent, ended):
                bad.add(sent, f"{error} on worker {worker}, which was spared", sent, identity)
        served = sum(spared(sent, worker) for sent, worker in self._served)
        return decide(
            self,
            bad,
            0,
            "operations failed on workers that the fault spared",
            "" if served else "no operation was sent to a spared worker during the fault",
            quantities={"served_meanwhile": served, "failed": bad.count},
            bound="0 failed",
        )


def _hit(facts: Facts, worker: int, sent: float, ended: float) -> bool:
    """Tell whether another fault hits this worker too, or had not let go of it long enough."""
    since = sent - facts.bounds["recovery_s"]
    return any(
        fault.window.overlaps(since, ended)
        for fault in facts.faults
        if not fault.workers or worker in fault.workers
    )
