"""Scenario key `telemetry`: whether workers send traces to the run's own collector."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harness.fault_specs import Model

SWITCHES = {"on": True, "off": False, True: True, False: False}


class Telemetry(Model):
    """Traces are on. `sample` is the share of requests that have one."""

    sample: float = Field(1.0, gt=0, le=1)
    max_spans: int = Field(200_000, ge=100, le=2_000_000)


def switched(value: Any) -> Any:
    """Return the section that `on` or `off` means; YAML reads these words as true and false."""
    if isinstance(value, bool | str) and value in SWITCHES:
        return {} if SWITCHES[value] else None
    if isinstance(value, str | int | float):
        raise ValueError("expected on, off, or a mapping such as {sample: 0.1}")
    return value
