"""The pace of probes: absolute timetables, so that a slow sample does not shift the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from harness.clock import monotonic


async def ticks(period: float) -> AsyncIterator[int]:
    """Yield 0, 1, 2, … every `period` seconds; ticks that were missed are left out."""
    started, tick = monotonic(), 0
    while True:
        yield tick
        tick = max(tick + 1, int((monotonic() - started) / period) + 1)
        await asyncio.sleep(max(0.0, started + tick * period - monotonic()))
