"""Processor time and memory of everything beside the workers: Redis, provider, load, harness."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.clock import monotonic
from harness.deploy.model import Deployment
from harness.faults.context import FaultContext
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe
from harness.probes.timing import ticks
from harness.probes.workers import usage_of

PERIOD_S = 1.0
HARNESS = "harness"
MACHINE = "machine"  # everything that runs on it, whoever started it
_TICK = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # fields of /proc/stat: idle, and waiting for a disk
_COUNTED = 8  # what comes after is guests' time, which is counted before already


class ProcessProbe(Probe):
    """Tells what the instruments cost, and whether they were the bottleneck; one sample a second.

    The workers have a probe of their own.
    """

    name = "process"

    def __init__(
        self, deployment: Deployment, writer: HistoryWriter, context: FaultContext | None
    ) -> None:
        super().__init__(deployment, writer)
        self._context = context
        self._used: dict[int, tuple[float, float]] = {}

    async def watch(self) -> None:
        """Sample all processes once a second."""
        async for _ in ticks(PERIOD_S):
            self._record(MACHINE, 0, busy_seconds(), 0)
            for name, pid in self._processes():
                if (usage := usage_of(pid)) is not None:  # None: it ended a moment ago
                    self._record(name, pid, usage[0], usage[2])

    def _processes(self) -> Iterator[tuple[str, int]]:
        yield HARNESS, os.getpid()
        workers = {worker.instance for worker in self.deployment.workers}
        running = dict(self._context.guardian.processes) if self._context else {}
        for name, process in running.items():
            if name not in workers and process.exit_status is None:
                yield name, process.pid

    def _record(self, name: str, pid: int, used: float, rss: int) -> None:
        """Record the processor time since the last sample, as a share of one core."""
        now = monotonic()
        if (before := self._used.get(pid)) is not None:
            cpu = round((used - before[0]) / (now - before[1]), 3)
            self.writer.record("sample", probe="process", name=name, cpu=cpu, rss=rss)
        self._used[pid] = (used, now)


def busy_seconds() -> float:
    """Return the seconds that all processors together have been busy, or were taken away."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    busy = [int(ticks) for place, ticks in enumerate(fields[:_COUNTED]) if place not in _IDLE]
    return sum(busy) / _TICK
