"""Canaries: which were acknowledged, on which workers each was heard, and what excuses silence."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from harness.checks.base import WORKER_FAULTS, Facts
from harness.checks.facts import end_of
from harness.history.records import Record

ARRIVAL_S = 2.0  # from the acknowledgement: until then a canary may still be on its way
IN_MEMORY_S = 0.5  # an event may be in its worker's memory for so long, and dies with it
SOCKET_GONE, DIED, TOO_LATE = "socket_was_gone", "died_with_worker", "sent_at_the_end"


def pairs(workers: int) -> list[tuple[int, int]]:
    """Return ordered pairs (from, to); a single worker is a pair with itself."""
    if workers == 1:
        return [(0, 0)]
    return [(i, j) for i in range(workers) for j in range(workers) if i != j]


@dataclass(frozen=True)
class Post:
    """An acknowledged canary: its worker, when it was sent and acknowledged, the operation's id."""

    origin: int
    sent: float
    acknowledged: float
    id: str


class Canaries:
    """Folds acknowledged posts, arrivals, and when the canary user's sockets were gone.

    `posted` has them by (worker, number); `heard` how often one arrived, by (worker, number,
    worker that it arrived at).
    """

    def __init__(self) -> None:
        self.posted: dict[tuple[int, int], Post] = {}
        self.heard: Counter[tuple[int, int, int]] = Counter()
        self._gone: dict[str, list[list[float]]] = defaultdict(list)  # socket → [lost, opened]

    def feed(self, record: Record) -> None:
        """Take an arrival, a socket's record, or an acknowledgement of any operation."""
        kind = record["k"]
        if kind == "canary":
            self.heard[record["origin"], record["n"], record["at"]] += 1
        elif kind == "socket":
            if record["socket"].startswith("canary-w"):
                self._socket(record)
        elif record["op"] == "event_post":
            asked = record["invoke"]
            post = Post(asked["origin"], asked["t"], record["t"], record["id"])
            self.posted[post.origin, asked["n"]] = post

    def _socket(self, record: Record) -> None:
        gone = self._gone[record["socket"]]
        if record["event"] == "lost":
            gone.append([record["t"], float("inf")])
        elif record["event"] == "opened" and gone:
            gone[-1][1] = record["t"]

    def excuse(self, facts: Facts, post: Post, at: int) -> str:
        """Return why a canary need not be heard at a worker; empty when it must be."""
        due = post.acknowledged + ARRIVAL_S
        if due >= end_of(facts):
            return TOO_LATE
        gone = self._gone.get(f"canary-w{at}", ())
        if any(lost <= due and post.sent <= opened for lost, opened in gone):
            return SOCKET_GONE
        return DIED if facts.killed(post.origin, post.acknowledged + IN_MEMORY_S) else ""

    def fewest(self, facts: Facts) -> int:
        """Return how many canaries inside focus say something of the pair with the fewest.

        A worker that a fault ends or stops has few by design: pairs with it are left out, unless
        there are no others.
        """
        hit = {w for fault in facts.faults if fault.kind in WORKER_FAULTS for w in fault.workers}
        counts, every = self._proving(facts), pairs(facts.workers)
        spared = [pair for pair in every if hit.isdisjoint(pair)]
        return min(counts[pair] for pair in spared or every)

    def _proving(self, facts: Facts) -> Counter[tuple[int, int]]:
        """Count by pair those that were acknowledged, and were heard or had to be."""
        counts: Counter[tuple[int, int]] = Counter()
        for (origin, n), post in self.posted.items():
            if not any(post.sent in window for window in facts.focus):
                continue
            for at in range(facts.workers):
                if self.heard[origin, n, at] or not self.excuse(facts, post, at):
                    counts[origin, at] += 1
        return counts
