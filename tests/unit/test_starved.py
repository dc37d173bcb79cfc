"""Only a late generator counts as a starved machine."""

from __future__ import annotations

from typing import Any

from tests.starved import starved


def _summary(name: str, **quantities: float) -> dict[str, Any]:
    return {"findings": [{"name": name, "verdict": "pass", "quantities": quantities}]}


def test_a_late_generator_is_a_starved_machine() -> None:
    """Its own lateness is what the generator measures of the machine."""
    assert starved(_summary("load-healthy", late_p95_ms=828.0))


def test_anything_else_is_the_systems_own_doing() -> None:
    """A generator in time, one that measured nothing, and other guarantees are no excuse."""
    assert not starved(_summary("load-healthy", late_p95_ms=35.0))
    assert not starved(_summary("load-healthy"))
    assert not starved(_summary("deaf-time", late_p95_ms=828.0))
