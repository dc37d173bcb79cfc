"""Processor time and memory of everything beside the workers: Redis, provider, load, harness."""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.clock import monotonic
from harness.deploy.model import Deployment
from harness.faults.context import FaultContext
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe
from harness.probes.timing import ticks
from harness.probes.workers import usage_of

PERIOD_S = 1.0
HARNESS = "harness"


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
            for name, pid in self._processes():
                self._sample(name, pid)

    def _processes(self) -> Iterator[tuple[str, int]]:
        yield HARNESS, os.getpid()
        workers = {worker.instance for worker in self.deployment.workers}
        running = dict(self._context.guardian.processes) if self._context else {}
        for name, process in running.items():
            if name not in workers and process.exit_status is None:
                yield name, process.pid

    def _sample(self, name: str, pid: int) -> None:
        usage = usage_of(pid)
        if usage is None:
            return  # it ended a moment ago
        used, _, rss = usage
        now = monotonic()
        if (before := self._used.get(pid)) is not None:
            cpu = round((used - before[0]) / (now - before[1]), 3)
            self.writer.record("sample", probe="process", name=name, cpu=cpu, rss=rss)
        self._used[pid] = (used, now)
