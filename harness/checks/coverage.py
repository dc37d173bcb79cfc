"""Coverage: did the run prove anything? Faults that happened, enough load, a healthy generator."""

from __future__ import annotations

from collections import Counter, defaultdict

from harness.checks.base import Check, Example, Facts, Finding
from harness.checks.canaries import Canaries
from harness.checks.facts import RunFacts, measured
from harness.checks.measure import MAX_EXAMPLES, quantile
from harness.checks.parts import Exits, is_part
from harness.history.records import Record
from harness.targets.base import PROCESSES
from harness.verdict import Verdict

LATE_MS = 250.0
CLOCK_S = 0.05  # clocks of load machines must be known that well
BUSY = 0.95  # of one processor: a load process is one thread
BUSY_SECONDS = 0.1  # the share of its seconds that a load process may be that busy


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


IN_FOCUS = {  # operation → the minimum load that counts it inside focus
    "sign_out": "sign_outs",
    "config_write": "config_changes",
    "sign_in_try": "sign_in_tries",
    "models_refresh": "model_refreshes",
    "session_end": "session_ends",
    "visit": "visits",
}


ANYWHERE = ("stops", "streams", "session_reads", "neighbour_streams")


class EnoughLoad(Check):
    """The minimum loads of the scenario, counted inside focus."""

    name = "enough-load"
    family = "coverage"
    sentence = "There was enough load around the faults to prove something."
    kinds = frozenset({"ok", "stream", "focus", "sample", "canary", "socket"})

    def __init__(self) -> None:
        self._focus = False
        self._counts: Counter[str] = Counter()
        self._canaries = Canaries()
        self._seconds: Counter[int] = Counter()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind in ("ok", "canary", "socket"):
            self._canaries.feed(record)
        if kind == "ok":
            self._answered(record)
        elif kind == "focus":
            self._focus = record["event"] == "begin"
        elif kind == "stream":
            self._counts["streams"] += record["event"] == "open"
        elif kind == "sample" and record["probe"] == "neighbour":
            self._counts["neighbour_streams"] += record["streams"]

    def _answered(self, record: Record) -> None:
        op = record["op"]
        self._seconds[int(record["t"])] += 1
        if op == "session_read":
            self._counts["session_reads"] += 1
        elif self._focus and op in IN_FOCUS:
            self._counts[IN_FOCUS[op]] += 1
        elif self._focus and op == "stop" and record["invoke"].get("outlives"):
            self._counts["stops"] += 1

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        window = measured(facts)
        length = max(window.end - window.start, 1e-9)
        inside = sum(n for s, n in self._seconds.items() if s in window)
        counts: dict[str, float] = {
            **dict.fromkeys((*ANYWHERE, *IN_FOCUS.values()), 0),
            **self._counts,
            "canaries_per_pair": self._canaries.fewest(facts),
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
        self._samples: list[Record] = []
        self._errors: list[str] = []

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] == "sample":
            if record["probe"] == "load":
                self._samples.append(record)
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
        window = measured(facts)
        samples = [sample for sample in self._samples if sample["t"] in window]
        late = sorted(sample["late_ms"] for sample in samples)
        p95 = quantile(late, 0.95)
        processes = facts.processes if isinstance(facts, RunFacts) else 1
        reasons = [f"{name} did not finish" for name in sorted(self._loads - self._finished)]
        if len(self._loads) < processes:
            reasons.append(f"{len(self._loads)} of {processes} load processes left a history")
        if not late:
            reasons.append("the generator's lateness was never sampled")
        if p95 > LATE_MS:
            reasons.append(f"the generator was the bottleneck: {p95:.0f} ms late")
        reasons += _overloaded(self._samples, samples)
        if facts.clock_error > CLOCK_S:
            reasons.append(
                f"the clock of a load machine is known to ±{1000 * facts.clock_error:.0f} ms only, "
                f"needed ±{1000 * CLOCK_S:g} ms"
            )
        return self.finding(
            Verdict.UNKNOWN if reasons or self._errors else Verdict.PASS,
            quantities={
                "processes": len(self._loads),
                "late_p95_ms": round(p95, 1),
                "cpu_max": max((sample.get("cpu", 0.0) for sample in samples), default=0.0),
                "shed": _shed(self._samples),
            },
            bound=f"≤ {LATE_MS:g} ms late, nothing shed, CPU below {BUSY:.0%}",
            reason="; ".join([*reasons, *self._errors[:4]]),
        )


def _shed(samples: list[Record]) -> int:
    """Return how many steps of the timetable were not begun, over all load processes."""
    last = {sample.get("process", 0): sample.get("shed", 0) for sample in samples}
    return sum(last.values())


def _overloaded(everything: list[Record], samples: list[Record]) -> list[str]:
    """Return why the generator was the bottleneck, if it was."""
    reasons = []
    if shed := _shed(everything):
        reasons.append(
            f"the generator shed {shed} steps that were due while too many were under way; "
            "lower the rate or raise load.processes"
        )
    by_process: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        by_process[sample.get("process", 0)].append(sample.get("cpu", 0.0))
    for process, used in sorted(by_process.items()):
        busy = sum(share >= BUSY for share in used)
        if busy > BUSY_SECONDS * len(used):
            reasons.append(
                f"the generator was the bottleneck: load-{process} used a whole processor in "
                f"{busy} of {len(used)} s; raise load.processes"
            )
    return reasons


class WorkersAlive(Check):
    """No process of the deployment under test ended unless a fault ended it."""

    name = "workers-alive"
    family = "coverage"
    sentence = "No worker died by itself."
    needs = frozenset({PROCESSES})
    kinds = Exits.kinds | {"sample"}

    def __init__(self) -> None:
        self._exits = Exits()
        self._seen: set[int] = set()

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["k"] != "sample":
            self._exits.feed(record)
        elif record["probe"] == "worker":
            self._seen.add(record["worker"])

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        examples = [
            Example(f"{name} ended by itself with status {status}", t)
            for name, status, t in self._exits.unmeant
            if not is_part(name)
        ]
        quantities = {"workers": len(self._seen), "died": len(examples)}
        if examples:
            examples = examples[:MAX_EXAMPLES]
            return self.finding(
                Verdict.FAIL, quantities=quantities, reason=examples[0].text, examples=examples
            )
        thin = len(self._seen) < facts.workers
        return self.finding(
            Verdict.UNKNOWN if thin else Verdict.PASS,
            quantities=quantities,
            reason="not every worker was watched" if thin else "",
        )
