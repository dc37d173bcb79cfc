"""Connections: each worker's connections to Redis return to the baseline after a fault."""

from __future__ import annotations

from collections import defaultdict

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide
from harness.history.records import Record

MIN_BASELINE = 4  # samples of a worker before the first fault (one in 250 ms)
MIN_AFTER = 4


class ConnectionsBack(Check):
    """Soon after a heal no worker has more connections than before, until the end."""

    name = "connections-bounded-and-back"
    family = "connections"
    sentence = "Redis connections of every worker return to their baseline after a fault."
    kinds = frozenset({"sample"})

    def __init__(self) -> None:
        self._samples: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["probe"] == "worker":
            self._samples[record["worker"]].append((record["t"], record["connections"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        over, settle = (
            facts.bounds["connections_over_baseline"],
            facts.bounds["connections_settle_s"],
        )
        bad, thin, base, settled = Worst(), "", {}, [0.0]
        for worker in range(facts.workers):
            samples = self._samples.get(worker, [])
            before = _baseline(facts, samples)
            if len(before) < MIN_BASELINE:
                thin = f"only {len(before)} samples of worker {worker} before the first fault"
                continue
            base[worker] = max(before)
            for start, end in _quiet(facts):
                after = [(t, n) for t, n in samples if start <= t <= end]
                late = [(t, n) for t, n in after if n > base[worker] + over]
                worst = max((n for t, n in late if t > start + settle), default=None)
                if worst is not None:
                    text = f"worker {worker}: {worst} connections, baseline {base[worker]}"
                    bad.add(worst - base[worker], text, late[-1][0])
                elif len(after) < MIN_AFTER or (late and late[-1] == after[-1]):
                    thin = f"the run ended before worker {worker} could settle"
                settled += [late[-1][0] - start] if late else []
        peaks = {w: max(n for _, n in samples) for w, samples in self._samples.items() if samples}
        return decide(
            self,
            bad,
            0,
            "workers kept more connections than before the fault",
            thin,
            quantities={
                "baseline_max": max(base.values(), default=0),
                "peak": max(peaks.values(), default=0),
                "settled_after_s": round(max(settled), 2),
                "samples": sum(map(len, self._samples.values())),
            },
            bound=f"≤ baseline + {over:g} within {settle:g} s of the heal",
        )


def _baseline(facts: Facts, samples: list[tuple[float, int]]) -> list[int]:
    """Return connections before the first fault; without faults, in the load's first half."""
    until = min(
        (f.window.start for f in facts.faults), default=(facts.load.start + facts.load.end) / 2
    )
    return [n for t, n in samples if facts.load.start <= t < until]


def _quiet(facts: Facts) -> list[tuple[float, float]]:
    """Return the stretches after each heal until the next fault; else the load's second half."""
    if not facts.faults:
        half = (facts.load.start + facts.load.end) / 2
        return [(half, end_of(facts))]
    stretches = []
    for fault in facts.faults:
        if any(o.window.start <= fault.window.end < o.window.end for o in facts.faults):
            continue
        later = [o.window.start for o in facts.faults if o.window.start > fault.window.end]
        if not later or min(later) > fault.window.end + facts.bounds["connections_settle_s"]:
            stretches.append((fault.window.end, min(later, default=end_of(facts))))
    return stretches
