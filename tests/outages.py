"""The outages that events must survive, each on three workers' logs at 200 events/s per worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from harness.scenario import Redis
from tests.live import live
from tests.log_workers import KEYS, log_workers

Persistence = Literal["none", "aof"]


async def restart(folder: Path, down_s: float, persistence: Persistence) -> float:
    """Kill a standalone server whose last writes nobody has read; start it after `down_s`.

    Events are whole. Returns the seconds from its first answer until every worker heard every
    other.
    """
    async with (
        live("standalone", folder, redis=Redis(persistence=persistence)) as parts,
        log_workers(parts.deployment.access) as workers,
    ):
        node = parts.primary_of(KEYS.events)
        await parts.isolate(node, KEYS.events)
        await parts.kill(node)
        await asyncio.sleep(down_s)  # the outage itself; nothing is waited for
        up = await parts.restart(node, empty=persistence == "none")
        await workers.hear(up)
        recovery = workers.recovery(up)
        await workers.judge()
    return recovery


async def fail_over(folder: Path, topology: str, *, lagging: bool) -> float:
    """Kill the events' primary, with `lagging` while nobody else has its last writes.

    Events are whole. Returns the seconds from the promotion until every worker heard every other.
    """
    async with (
        live(topology, folder) as parts,
        log_workers(parts.deployment.access) as workers,
    ):
        primary = parts.primary_of(KEYS.events)
        if lagging:
            await parts.isolate(primary, KEYS.events)
        killed, promoted = await asyncio.gather(parts.kill(primary), parts.switched(primary))
        assert killed is None
        up, _ = promoted
        await workers.hear(up)
        recovery = workers.recovery(up)
        await workers.judge()
    return recovery
