"""Latency per operation and part of the load: as users would feel it, and as it was sent.

*Corrected* counts from when an operation was due: its scheduled start where it has one, so that
operations which queued behind a stalled target count with the time they queued (coordinated
omission). *Raw* counts from when it was really sent.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.checks.measure import quantile
from harness.history.records import Record, due
from harness.shape import WARM_UP

POINTS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
WHOLE = "all"  # the whole measured part


@dataclass
class _Times:
    """Three columns: when it was due (run seconds), corrected and raw latency (s)."""

    due: array[float] = field(default_factory=lambda: array("d"))
    corrected: array[float] = field(default_factory=lambda: array("d"))
    raw: array[float] = field(default_factory=lambda: array("d"))


class Latencies:
    """Folds completions that succeeded."""

    def __init__(self) -> None:
        self._times: dict[str, _Times] = defaultdict(_Times)

    def take(self, record: Record) -> None:
        """Take a successful completion with its invocation in `invoke`."""
        asked, times = record["invoke"], self._times[record["op"]]
        invoked = asked["t"]
        times.due.append(due(asked))
        times.corrected.append(record["t"] - due(asked))
        times.raw.append(record["t"] - record.get("sent", invoked))

    def table(
        self, origin: float, parts: Sequence[tuple[str, float, float]]
    ) -> list[dict[str, Any]]:
        """Return a row per operation and part, first those of the whole measured part.

        `origin` is load second 0 in run seconds; `parts` are (name, start, end) in load seconds.
        """
        measured = [part for part in parts if part[0] != WARM_UP]
        start = measured[0][1] if measured else 0.0
        shown = [(WHOLE, start, float("inf"))]
        if len(parts) > 1:
            shown += parts
        return [
            row
            for op in sorted(self._times)
            for name, begin, end in shown
            if (row := self._row(op, name, origin + begin, origin + end))
        ]

    def _row(self, op: str, part: str, begin: float, end: float) -> dict[str, Any]:
        """Return one row; empty when nothing of this operation was due in that part."""
        times = self._times[op]
        places = [place for place, due in enumerate(times.due) if begin <= due < end]
        if not places:
            return {}
        columns = {"corrected": times.corrected, "raw": times.raw}
        spreads = {name: _spread([column[p] for p in places]) for name, column in columns.items()}
        return {"op": op, "part": part, "count": len(places), **spreads}


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"{name}_ms": round(1000 * quantile(ordered, q), 1) for name, q in POINTS.items()}
