"""`--abort-on`: a condition on the load's own answers that ends it early."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from harness.errors import UserError

GRAMMAR = re.compile(r"errors\s*>\s*(\d+(?:\.\d+)?)\s*%(?:\s+for\s+(\d+(?:\.\d+)?)\s*s)?")
WINDOW_S = 5.0
LEAST = 20  # operations in the window: less says nothing about a share


@dataclass(frozen=True)
class Condition:
    """More than `share` (0 … 1) of the operations of the last `window` seconds failed."""

    text: str
    share: float
    window: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read `errors>5%` or `errors>5% for 10s`; raise UserError."""
        found = GRAMMAR.fullmatch(text.strip())
        if found is None or float(found[1]) > 100 or (found[2] and float(found[2]) < 1):
            raise UserError(
                f"--abort-on {text!r}: expected errors>N%, such as 'errors>5%' (of the operations "
                f"of the last {WINDOW_S:g} s) or 'errors>5% for 10s'; at least 1 s, at most 100 %"
            )
        return cls(text.strip(), float(found[1]) / 100, float(found[2] or WINDOW_S))


class AbortWatch:
    """Looks at running counts; `sample` says why to abort, or nothing."""

    def __init__(self, condition: Condition | None) -> None:
        self._condition = condition
        self._seen: deque[tuple[float, int, int]] = deque()

    def sample(self, now: float, ops: int, errors: int) -> str:
        """Take the counts so far, at `now` seconds; return the reason to end, if there is one."""
        if (condition := self._condition) is None:
            return ""
        self._seen.append((now, ops, errors))
        while len(self._seen) > 2 and self._seen[1][0] <= now - condition.window:
            self._seen.popleft()
        then, ops_then, errors_then = self._seen[0]
        done, failed = ops - ops_then, errors - errors_then
        if now - then < condition.window or done < LEAST or failed <= condition.share * done:
            return ""
        share = 100 * failed / done
        return (
            f"--abort-on {condition.text}: {failed} of {done} operations ({share:.0f} %) failed "
            f"in the last {now - then:.1f} s"
        )
