"""The slowest traced operations of a run, chosen in the pass that draws the rest."""

from __future__ import annotations

import heapq
from collections import defaultdict

from harness.history.records import COMPLETIONS, INVOKE, Record
from harness.report.series import Operation

PER_OPERATION = 4  # kept of each kind
MOST = 12  # shown in all: the slowest of each kind first
_META = frozenset({"t", "k", "id", "op", "worker"})


class SlowestFold:
    """Keeps, per kind of operation, the few that took longest from being sent to their end.

    Only what has a trace counts, and only the measured part: the first requests are slow for
    reasons of their own.
    """

    def __init__(self) -> None:
        self._open: dict[str, Record] = {}
        self._kept: dict[str, list[tuple[float, str, Record, Record]]] = defaultdict(list)
        self._over = False

    def feed(self, record: Record) -> None:
        """Fold one record."""
        kind = record["k"]
        if kind == INVOKE:
            if "trace" in record and not self._over:
                self._open[record["id"]] = record
        elif kind in COMPLETIONS:
            if (asked := self._open.pop(record["id"], None)) is not None:
                self._take(asked, record)
        elif kind == "phase":
            self._phase(record["name"])

    def _phase(self, name: str) -> None:
        if name == "load":
            self._open.clear()
            self._kept.clear()
        self._over = self._over or name == "quiesce"

    def _take(self, asked: Record, done: Record) -> None:
        took = done["t"] - _sent(asked, done)
        kept = self._kept[asked["op"]]
        heapq.heappush(kept, (took, asked["id"], asked, done))
        if len(kept) > PER_OPERATION:
            heapq.heappop(kept)

    def finish(self, origin: float) -> list[Operation]:
        """Return the chosen ones, slowest first; times in seconds of load time."""
        ranked = [
            sorted(kept, key=lambda item: item[0], reverse=True) for kept in self._kept.values()
        ]
        first = sorted((kept[0] for kept in ranked), key=lambda item: item[0], reverse=True)
        others = [item for kept in ranked for item in kept[1:]]
        others.sort(key=lambda item: item[0], reverse=True)
        chosen = [*first, *others][:MOST]
        chosen.sort(key=lambda item: item[0], reverse=True)
        return [_operation(asked, done, origin) for _, _, asked, done in chosen]


def _sent(asked: Record, done: Record) -> float:
    """Return when it left: one that waited for a connection says so at its end."""
    return float(done["sent"] if "sent" in done else asked["t"])


def _operation(asked: Record, done: Record, origin: float) -> Operation:
    return Operation(
        id=asked["id"],
        op=asked["op"],
        worker=done.get("worker", asked.get("worker")),
        sent=_sent(asked, done) - origin,
        done=done["t"] - origin,
        outcome=done["k"],
        args={key: value for key, value in asked.items() if key not in _META},
        result={key: value for key, value in done.items() if key not in _META},
    )
