"""Small tools of all checks: quantiles, the worst examples, words for counts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from harness.checks.base import Check, Example, Finding
from harness.verdict import Verdict

MAX_EXAMPLES = 8


class Worst:
    """Counts cases and keeps the few worst of them as examples."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[float, int, Example]] = []

    def add(self, badness: float, text: str, t: float, *operations: str | None) -> None:
        """Take a case; the larger `badness`, the worse."""
        self.count += 1
        example = Example(text, t, [name for name in operations if name])
        item = (badness, -self.count, example)
        if len(self._heap) < MAX_EXAMPLES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    @property
    def examples(self) -> list[Example]:
        """Return the worst first."""
        return [item[2] for item in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile of sorted values; 0 when there are none."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def spread(name: str, values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Return p50, p99 and max of values as quantities called after `name`; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    points = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {f"{name}_{key}": round(quantile(ordered, q), digits) for key, q in points.items()}


def decide(
    check: Check, bad: Worst, allowed: float, failed: str, unknown: str, **fields: Any
) -> Finding:
    """Return fail with more than `allowed` bad cases, unknown with a reason for it, else pass.

    `failed` is the sentence after the number of bad cases; `unknown` says why the evidence is too
    thin, or is empty.
    """
    if bad.count > allowed:
        reason = f"{bad.count} {failed}"
        return check.finding(Verdict.FAIL, reason=reason, examples=bad.examples, **fields)
    if unknown:
        return check.finding(Verdict.UNKNOWN, reason=unknown, examples=bad.examples, **fields)
    return check.finding(Verdict.PASS, examples=bad.examples, **fields)


def missing_workers(seen: Iterable[int], workers: int, what: str) -> str:
    """Return why the evidence is thin when some worker has none; else an empty string."""
    absent = sorted(set(range(workers)) - set(seen))
    if not absent:
        return ""
    return f"no {what} from worker {', '.join(map(str, absent))}"


def tab_of(socket: str) -> str:
    """Return whose connection a socket is: `u17` of `u17-2`."""
    return socket.rpartition("-")[0]
