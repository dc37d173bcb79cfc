"""Coverage: did the run prove anything? Faults that happened, enough load, a healthy generator."""

from __future__ import annotations

from collections import Counter

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import RunFacts
from harness.checks.measure import Worst, quantile
from harness.history.records import Record
from harness.verdict import Verdict

LATE_MS = 250.0


class FaultHappened(Check):
    """Every planned fault was confirmed by evidence, and healed."""

    name = "fault-really-happened"
    family = "coverage"
    sentence = "Every planned fault really happened and was healed."
    kinds = frozenset({"fault"})

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["event"] == "error":
            self._errors[record["id"]] = str(record.get("text") or record.get("evidence") or "")

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        before = facts.boot if isinstance(facts, RunFacts) else ()
        known = {fault.id: fault for fault in (*before, *facts.faults)}
        planned = facts.planned if isinstance(facts, RunFacts) else tuple(known)
        reasons = []
        for name in planned:
            fault = known.get(name)
            if name in self._errors:
                reasons.append(f"fault {name}: {self._errors[name]}")
            elif fault is None or not fault.confirmed:
                reasons.append(f"fault {name} has no evidence that it happened")
            elif not fault.healed:
                reasons.append(f"fault {name} was never seen healed")
        confirmed = sum(known[name].confirmed for name in planned if name in known)
        return self.finding(
            Verdict.UNKNOWN if reasons else Verdict.PASS,
            quantities={"planned": len(planned), "confirmed": confirmed},
            reason="; ".join(reasons),
        )


class EnoughLoad(Check):
    """The minimum loads of the scenario, counted inside focus."""

    name = "enough-load"
    family = "coverage"
    sentence = "There was enough load around the faults to prove something."
    kinds = frozenset({"ok", "invoke", "stream", "focus"})

    def __init__(self) -> None:
        self._focus = False
        self._counts: Counter[str] = Counter()
        self._canaries: Counter[int] = Counter()
        self._operations: list[int] = [0]
        self._seconds: Counter[int] = Counter()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == "ok":
            self._answered(record)
        elif kind == "focus":
            self._focus = record["event"] == "begin"
        elif kind == "stream":
            self._counts["streams"] += record["event"] == "open"
        elif record["op"] == "event_post" and self._focus:
            self._canaries[record["origin"]] += 1

    def _answered(self, record: Record) -> None:
        op = record["op"]
        self._seconds[int(record["t"])] += 1
        if op == "session_read":
            self._counts["session_reads"] += 1
        elif self._focus and op == "sign_out":
            self._counts["sign_outs"] += 1
        elif self._focus and op == "stop" and record["invoke"].get("outlives"):
            self._counts["stops"] += 1

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        fewest = min((self._canaries[worker] for worker in range(facts.workers)), default=0)
        length = max(facts.load.end - facts.load.start, 1e-9)
        inside = sum(n for s, n in self._seconds.items() if s in facts.load)
        counts: dict[str, float] = {
            **dict.fromkeys(("stops", "sign_outs", "streams", "session_reads"), 0),
            **self._counts,
            "canaries_per_pair": fewest,
            "requests_per_s": round(inside / length, 1),
        }
        short = [
            f"{counts[name]:g} {name}, needed {least:g}"
            for name, least in facts.enough.items()
            if counts[name] < least
        ]
        wanted = ", ".join(f"{name} ≥ {least:g}" for name, least in facts.enough.items())
        return self.finding(
            Verdict.UNKNOWN if short else Verdict.PASS,
            quantities=counts,
            bound=wanted,
            reason="too little load: " + "; ".join(short) if short else "",
        )


class LoadHealthy(Check):
    """Every load process finished, without errors of its own, and kept its timetable."""

    name = "load-healthy"
    family = "coverage"
    sentence = "The load generator itself was healthy and on time."
    kinds = frozenset({"note", "sample", "header"})

    def __init__(self) -> None:
        self._finished: set[str] = set()
        self._loads: set[str] = set()
        self._late: list[tuple[float, float]] = []
        self._errors: list[str] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "sample":
            if record["probe"] == "load":
                self._late.append((record["t"], record["late_ms"]))
        elif record["k"] == "header":
            if record["source"].startswith("load-"):
                self._loads.add(record["source"])
        else:
            self._note(str(record["text"]), record.get("level"))

    def _note(self, text: str, level: object) -> None:
        source, _, rest = text.partition(": ")
        if rest == "finished":
            self._finished.add(source)
        elif level == "error":
            self._errors.append(text)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        late = sorted(ms for t, ms in self._late if t in facts.load)
        p95 = quantile(late, 0.95)
        processes = facts.processes if isinstance(facts, RunFacts) else 1
        reasons = [f"{name} did not finish" for name in sorted(self._loads - self._finished)]
        if len(self._loads) < processes:
            reasons.append(f"{len(self._loads)} of {processes} load processes left a history")
        if not late:
            reasons.append("the generator's lateness was never sampled")
        if p95 > LATE_MS:
            reasons.append(f"the generator was {p95:.0f} ms late")
        return self.finding(
            Verdict.UNKNOWN if reasons or self._errors else Verdict.PASS,
            quantities={"processes": len(self._loads), "late_p95_ms": round(p95, 1)},
            bound=f"≤ {LATE_MS:g} ms late",
            reason="; ".join([*reasons, *self._errors[:4]]),
        )


class WorkersAlive(Check):
    """No process of the target or of Redis ended unless a fault ended it."""

    name = "workers-alive"
    family = "coverage"
    sentence = "No worker died by itself."
    kinds = frozenset({"exit", "phase", "sample"})

    def __init__(self) -> None:
        self._dead = Worst()
        self._over = False
        self._seen: set[int] = set()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "sample":
            if record["probe"] == "worker":
                self._seen.add(record["worker"])
        elif record["k"] == "phase":
            self._over = self._over or record["name"] == "teardown"
        elif not record["expected"] and not self._over:
            text = f"{record['name']} ended by itself with status {record['status']}"
            self._dead.add(0, text, record["t"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        quantities = {"workers": len(self._seen), "died": self._dead.count}
        if self._dead.count:
            examples = self._dead.examples
            return self.finding(
                Verdict.FAIL, quantities=quantities, reason=examples[0].text, examples=examples
            )
        thin = len(self._seen) < facts.workers
        return self.finding(
            Verdict.UNKNOWN if thin else Verdict.PASS,
            quantities=quantities,
            reason="not every worker was watched" if thin else "",
        )
