"""Tells a machine that had no time for the run from a system that was slow."""

from __future__ import annotations

from typing import Any

TRIES = 3  # neighbours of a shared machine come and go
LATE_MS = 100  # on a quiet machine 95 of 100 seconds have no operation this late


def starved(summary: dict[str, Any]) -> bool:
    """Tell whether the load generator itself was late: then a test cannot count on any bound.

    The generator is a process of its own, so a broken target does not make it late.
    """
    return any(
        finding["name"] == "load-healthy"
        and finding["quantities"].get("late_p95_ms", 0.0) > LATE_MS
        for finding in summary["findings"]
    )
