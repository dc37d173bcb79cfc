"""Connections: they return to the baseline after a fault, and do not leak without one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from harness.checks.base import Check, Facts, Finding
from harness.checks.facts import end_of
from harness.checks.measure import Worst, decide
from harness.history.records import Record
from harness.targets.base import PROCESSES
from harness.verdict import Verdict

MIN_BASELINE = 4  # samples of a worker before the first fault (one in 250 ms)
MIN_AFTER = 4
MIN_QUARTER = 2  # of a load without faults
WARM_S = 2.0  # pools fill while the load begins
STRETCH_S = 5.0  # a shorter one holds too few samples (one a second)
STEADY_S = 2.0  # at least so long in all
BACK = "kept more connections than before the fault"
LEAKED = "had more and more connections under the same load"


class ConnectionsBack(Check):
    """Soon after a heal no worker has more connections than before, until the end.

    Without a fault nothing has to come back: then only a leak is red, which is growth that goes on
    while the load does.
    """

    name = "connections-bounded-and-back"
    family = "connections"
    sentence = "Redis connections of every worker return to their baseline after a fault."
    needs = frozenset({PROCESSES})
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
        if not facts.faults and not getattr(facts, "steady", True):
            reason = "no fault, and a load that changes: growth proves nothing"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)
        seen = _Workers()
        for worker in range(facts.workers):
            seen.add(facts, worker, self._samples.get(worker, []))
        peaks = [max(n for _, n in samples) for samples in self._samples.values() if samples]
        return decide(
            self,
            seen.bad,
            0,
            "workers " + (BACK if facts.faults else LEAKED),
            seen.thin,
            quantities={
                "baseline_max": max(seen.base.values(), default=0),
                "peak": max(peaks, default=0),
                "settled_after_s": round(max(seen.settled), 2),
                "samples": sum(map(len, self._samples.values())),
            },
            bound=f"≤ baseline + {over:g}"
            + (f" within {settle:g} s of the heal" if facts.faults else " at rest"),
        )


class ConnectionsKept(Check):
    """Away from faults hardly any connection is closed and opened again; pools may grow."""

    name = "connections-kept"
    family = "connections"
    sentence = "In steady state workers keep their Redis connections and open no new ones."
    kinds = frozenset({"sample"})

    def __init__(self) -> None:
        self._asked = False  # whether there is a node at all, up or down
        # node → t, connections accepted so far, connections open
        self._samples: dict[str, list[tuple[float, int, int]]] = defaultdict(list)

    def feed(self, record: Record) -> None:
        """Fold one record."""
        if record["probe"] != "redis":
            return
        self._asked = True
        if "received" in record:
            sample = (record["t"], record["received"], record["clients"])
            self._samples[record["node"]].append(sample)

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        if not self._asked and PROCESSES not in facts.capabilities:
            reason = "an external deployment, and nobody named its Redis nodes (`--redis`)"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)
        bound, quiet = facts.bounds["new_connections_per_s"], _steady(facts)
        if not quiet:
            reason = f"faults leave no {STRETCH_S:g} s of steady state"
            return self.finding(Verdict.PASS, applicable=False, reason=reason)
        bad, rates, seconds = Worst(), [0.0], 0.0
        for start, end in quiet:
            length, new = _replaced(self._samples, start, end)
            seconds += length
            rate = new / length / facts.workers if length else 0.0
            rates.append(rate)
            if rate > bound:
                text = f"{new} connections anew in {length:.0f} s: {rate:.1f} a second and worker"
                bad.add(rate, text, start)
        thin = f"only {seconds:.0f} s of steady state" if seconds < STEADY_S else ""
        return decide(
            self,
            bad,
            0,
            "stretches of steady state had too many connections closed and opened anew",
            thin,
            quantities={"per_s_and_worker": round(max(rates), 2), "steady_s": round(seconds, 1)},
            bound=f"≤ {bound:g} a second and worker",
        )


def _steady(facts: Facts) -> list[tuple[float, float]]:
    """Return the stretches of the load that no fault touches, nor the time to settle after it."""
    begin, stretches = facts.load.start + WARM_S, []
    for fault in sorted(facts.faults, key=lambda fault: fault.window.start):
        stretches.append((begin, fault.window.start))
        begin = max(begin, fault.window.end + facts.bounds["connections_settle_s"])
    stretches.append((begin, facts.load.end))
    return [(start, end) for start, end in stretches if end - start >= STRETCH_S]


def _replaced(
    samples: dict[str, list[tuple[float, int, int]]], start: float, end: float
) -> tuple[float, int]:
    """Return seconds between first and last sample, and connections accepted without growth."""
    length, new = 0.0, 0
    for node in samples.values():
        inside = [sample for sample in node if start <= sample[0] <= end]
        if len(inside) > 1:
            (began, accepted, open_then), (ended, now, open_now) = inside[0], inside[-1]
            length = max(length, ended - began)
            new += max(0, now - accepted - max(0, open_now - open_then))
    return length, new


@dataclass
class _Workers:
    """What each worker's connections did after the faults; `thin` says why nothing is proven."""

    bad: Worst = field(default_factory=Worst)
    thin: str = ""
    base: dict[int, int] = field(default_factory=dict)
    settled: list[float] = field(default_factory=lambda: [0.0])

    def add(self, facts: Facts, worker: int, samples: list[tuple[float, int]]) -> None:
        """Compare one worker's samples of every quiet stretch with its baseline."""
        before = _baseline(facts, samples)
        if len(before) < MIN_BASELINE:
            self.thin = f"only {len(before)} samples of worker {worker} before the first fault"
            return
        self.base[worker] = max(before)
        if not facts.faults:
            self._growth(facts, worker, samples)
        for start, end in _quiet(facts):
            after = [(t, n) for t, n in samples if start <= t <= end]
            self._stretch(facts, worker, start, self._without_last_look(facts, worker, after))

    def _without_last_look(
        self, facts: Facts, worker: int, after: list[tuple[float, int]]
    ) -> list[tuple[float, int]]:
        """Leave the last look out where the load had ended within the bound.

        It asks for everything at once, which the baseline knows nothing of: a pool may grow then.
        """
        loaded = [(t, n) for t, n in after if t <= facts.load.end]
        most = self.base[worker] + facts.bounds["connections_over_baseline"]
        enough = len(loaded) >= MIN_AFTER and loaded[-1][1] <= most
        return loaded if enough else after

    def _growth(self, facts: Facts, worker: int, samples: list[tuple[float, int]]) -> None:
        """Look for a leak: more in the third quarter, still more in the fourth, never less again.

        A pool grows to the greatest number of calls at once, in one step or two, and then stays.
        """
        third, fourth = (_quarter(facts, samples, number) for number in (2, 3))
        if min(len(third), len(fourth)) < MIN_QUARTER:
            self.thin = f"too few samples of worker {worker} in the second half of the load"
            return
        base = self.base[worker]
        most = base + facts.bounds["connections_over_baseline"]
        if min(fourth) > most and base < max(third) < max(fourth):
            text = f"worker {worker}: at least {min(fourth)} connections in the last quarter of "
            text += f"the load, at most {base} in its first half"
            self.bad.add(min(fourth) - base, text, facts.load.end)

    def _stretch(
        self, facts: Facts, worker: int, start: float, after: list[tuple[float, int]]
    ) -> None:
        most = self.base[worker] + facts.bounds["connections_over_baseline"]
        late = [(t, n) for t, n in after if n > most]
        settle = start + facts.bounds["connections_settle_s"]
        worst = max((n for t, n in late if t > settle), default=None)
        if worst is not None:
            text = f"worker {worker}: {worst} connections, baseline {self.base[worker]}"
            self.bad.add(worst - self.base[worker], text, late[-1][0])
        elif len(after) < MIN_AFTER or (late and late[-1] == after[-1]):
            self.thin = f"the run ended before worker {worker} could settle"
        self.settled += [late[-1][0] - start] if late else []


def _baseline(facts: Facts, samples: list[tuple[float, int]]) -> list[int]:
    """Return connections before the first fault; without faults, in the load's first half."""
    until = min(
        (f.window.start for f in facts.faults), default=(facts.load.start + facts.load.end) / 2
    )
    return [n for t, n in samples if facts.load.start <= t < until]


def _quarter(facts: Facts, samples: list[tuple[float, int]], number: int) -> list[int]:
    """Return connections in one quarter of the load, 0 to 3."""
    length = (facts.load.end - facts.load.start) / 4
    start = facts.load.start + number * length
    return [n for t, n in samples if start <= t < start + length]


def _quiet(facts: Facts) -> list[tuple[float, float]]:
    """Return the stretches after each heal until the next fault."""
    stretches = []
    for fault in facts.faults:
        if any(o.window.start <= fault.window.end < o.window.end for o in facts.faults):
            continue
        later = [o.window.start for o in facts.faults if o.window.start > fault.window.end]
        if not later or min(later) > fault.window.end + facts.bounds["connections_settle_s"]:
            stretches.append((fault.window.end, min(later, default=end_of(facts))))
    return stretches
