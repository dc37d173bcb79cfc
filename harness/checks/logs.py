"""What workers write to their logs: an outage must not fill the disk."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from harness.checks.base import Check, Facts, Finding
from harness.checks.measure import Worst, decide, missing_workers, spread
from harness.history.records import Record
from harness.targets.base import PROCESSES

SPAN_S = 2.0  # rates are means over so long: one traceback is no storm
KB = 1000


class LogsBounded(Check):
    """The growth of each worker's log, over stretches of two seconds."""

    name = "logs-bounded"
    family = "resources"
    sentence = "No worker floods its log, also while Redis is away."
    needs = frozenset({PROCESSES})
    kinds = frozenset({"sample"})

    def __init__(self) -> None:
        self._sizes: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def feed(self, record: Record) -> None:
        """Keep a worker's samples that are a span apart."""
        if record["probe"] != "worker" or "log" not in record:
            return
        sizes = self._sizes[record["worker"]]
        if not sizes or record["t"] >= sizes[-1][0] + SPAN_S:
            sizes.append((record["t"], record["log"]))

    def judge(self, facts: Facts) -> Finding:
        """Return the finding."""
        bound, bad, rates, judged = facts.bounds["log_kb_per_s"], Worst(), [], set()
        for worker, sizes in self._sizes.items():
            for (since, before), (t, size) in pairwise(sizes):
                if not facts.load.start <= since <= facts.load.end:
                    continue
                judged.add(worker)
                rate = max(0, size - before) / (t - since) / KB
                rates.append(rate)
                if rate > bound:
                    text = f"worker {worker} wrote {rate:.0f} kB/s to its log"
                    bad.add(rate, text, since)
        return decide(
            self,
            bad,
            0,
            f"stretches of {SPAN_S:g} s with more than {bound:g} kB/s of log",
            missing_workers(judged, facts.workers, "two samples of the log"),
            quantities=spread("kb_per_s", rates, 1),
            bound=f"≤ {bound:g} kB/s for each worker",
        )
