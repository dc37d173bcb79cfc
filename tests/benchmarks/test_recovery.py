"""How fast workers hear each other again, and how a hung primary is left; no event is lost.

Targets: 1 s after Redis is up, whatever the outage's length; with a hung primary no gap of
`/health` over 150 ms, and subscriptions on the new primary within 2 s of the switch.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from harness.clock import monotonic
from harness.deploy.model import Node
from harness.targets.runtime import PREFIX
from harness.waiting import wait_for
from runtime.redis.keys import Keys
from tests.benchmarks.figures import Figures
from tests.live import Live, command, live
from tests.outages import Persistence, fail_over, restart

HEARS_WITHIN_S = 1.0
POLL_S = 0.01
WORKERS = 3
HANGS_S = 4.0
CHANNEL = Keys(PREFIX).task_commands


@pytest.mark.parametrize("persistence", ["aof", "none"])
@pytest.mark.parametrize("down_s", [8, 35])
def test_restart(
    benchmark: Any, figures: Figures, tmp_path: Path, down_s: int, persistence: Persistence
) -> None:
    """Redis comes back with its data, or empty."""
    outage = lambda: asyncio.run(restart(tmp_path, down_s, persistence))  # noqa: E731 - one use
    heard = benchmark.pedantic(outage, rounds=1)
    name = f"heard again after {down_s} s, {persistence}"
    figures.note(name, [heard], "s", at_most=HEARS_WITHIN_S)


@pytest.mark.parametrize("lagging", [False, True], ids=["in-step", "lagging"])
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
def test_failover(
    benchmark: Any, figures: Figures, tmp_path: Path, topology: str, lagging: bool
) -> None:
    """From the promotion of a replica that has everything, or misses the end."""
    failover = lambda: asyncio.run(fail_over(tmp_path, topology, lagging=lagging))  # noqa: E731 - one use
    heard = benchmark.pedantic(failover, rounds=1)
    name = f"heard again, {topology}{' lagging' if lagging else ''}"
    figures.note(name, [heard], "s", at_most=HEARS_WITHIN_S)


class HealthGaps:
    """Asks one worker's /health every 10 ms, whatever became of the last question."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.longest = 0.0
        self._last = monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            task = asyncio.create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(POLL_S)

    async def _ask(self) -> None:
        async with self._http.get(f"{self._url}/health") as answer:
            if answer.status == 200:
                self.note()

    def note(self) -> None:
        """Take the time since the last good answer; also at the end, which may lack one."""
        now = monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now


async def _subscribed(node: Node) -> bool:
    """Tell whether all workers' subscriptions and event readers are on a node."""
    ((_, count),) = await command(node, "PUBSUB NUMSUB", CHANNEL)
    clients = await command(node, "CLIENT LIST")
    readers = sum(str(each["name"]).endswith(":events-reader") for each in clients)
    return bool(count == readers == WORKERS)


async def _hang(parts: Live) -> tuple[float, float]:
    """Stop the primary's process; return the longest gap and the time until all moved, in s."""
    primary = parts.deployment.nodes[0]
    async with aiohttp.ClientSession() as http:
        gaps = [HealthGaps(http, worker.url) for worker in parts.deployment.workers]
        asking = [asyncio.create_task(each.run()) for each in gaps]
        await asyncio.sleep(1.0)  # before the fault: connections are open
        for each in gaps:
            each.longest = 0.0
        assert primary.process is not None
        primary.process.signal(signal.SIGSTOP)
        switch, promoted = await parts.switched(primary)
        await wait_for(lambda: _subscribed(promoted), 20, "workers are on the new primary")
        moved = monotonic() - switch
        await asyncio.sleep(HANGS_S)  # it goes on hanging
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for each in gaps:
            each.note()
        return max(each.longest for each in gaps), moved


async def _hung_primary(folder: Path) -> tuple[float, float]:
    async with live("sentinel", folder, workers=WORKERS) as parts:
        return await _hang(parts)


def test_hung_primary(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """SIGSTOP under Sentinel: nobody freezes with it."""
    gap, moved = benchmark.pedantic(lambda: asyncio.run(_hung_primary(tmp_path)), rounds=1)
    figures.note("longest gap of /health, primary hung", [gap * 1000], "ms", at_most=150)
    figures.note("all on the new primary after the switch", [moved], "s", at_most=2.0)
