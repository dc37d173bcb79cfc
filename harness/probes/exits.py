"""Processes of the run that end: on purpose by a fault, or not."""

from __future__ import annotations

from harness.deploy.model import Deployment, Process
from harness.faults.context import FaultContext
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe
from harness.probes.timing import ticks

PERIOD_S = 0.1


class ExitProbe(Probe):
    """Records each exit once, with its status and whether a fault meant it."""

    name = "exits"

    def __init__(
        self, deployment: Deployment, writer: HistoryWriter, context: FaultContext | None
    ) -> None:
        super().__init__(deployment, writer)
        self._context = context
        self._told: set[tuple[str, int]] = set()

    async def watch(self) -> None:
        """Look at every process of the run ten times a second."""
        async for _ in ticks(PERIOD_S):
            for process in self._processes():
                if process.exit_status is not None:
                    self._tell(process)

    def _processes(self) -> list[Process]:
        """Return servers, workers, provider and proxy; load processes end when they are done.

        The guardian has none of the servers that run in containers.
        """
        deployment = self.deployment
        nodes = (node.process for node in (*deployment.nodes, *deployment.sentinels))
        workers = (worker.process for worker in deployment.workers)
        everything = {each.name: each for each in (*nodes, *workers) if each is not None}
        if self._context is not None:
            everything |= self._context.guardian.processes
        return [each for each in everything.values() if not each.name.startswith("load")]

    def _tell(self, process: Process) -> None:
        if (key := (process.name, process.pid)) in self._told:
            return
        self._told.add(key)
        expected = self._context is not None and self._context.expects_exit(process)
        self.writer.record(
            "exit",
            name=process.name,
            pid=process.pid,
            status=process.exit_status,
            expected=expected,
        )
