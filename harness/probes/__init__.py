"""What is sampled while a run goes on: canaries, processes, Redis, health, switches, exits."""

from __future__ import annotations

import asyncio

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.faults.context import FaultContext
from harness.history.writer import HistoryWriter
from harness.load.accounts import old_session
from harness.plan import Plan
from harness.probes.base import Probe
from harness.probes.canary import CanaryProbe
from harness.probes.exits import ExitProbe
from harness.probes.health import HealthProbe
from harness.probes.pollers import PollerProbe
from harness.probes.processes import ProcessProbe
from harness.probes.redis import RedisProbe
from harness.probes.switch import switch_probe
from harness.probes.workers import WorkerProbe


class Probes:
    """All probes of a run; they share the harness's own history file, flushed by its owner.

    `context` is the one that the injector gets: exits that a fault causes are expected exits.
    Load second 0 is read from the start file that the load's launch writes.
    """

    def __init__(
        self,
        deployment: Deployment,
        plan: Plan,
        run: RunFolder,
        clock: RunClock,
        writer: HistoryWriter,
        context: FaultContext | None = None,
    ) -> None:
        self.clock = clock
        cookies = plan.scenario.get("load", {}).get("session_cookies")
        self.probes: list[Probe] = [
            ExitProbe(deployment, writer, context),
            switch_probe(deployment, writer),
            RedisProbe(deployment, writer),
            WorkerProbe(deployment, writer),
            ProcessProbe(deployment, writer, context),
            HealthProbe(deployment, writer, old_session() if cookies else ""),
            CanaryProbe(deployment, plan, run, writer),
            PollerProbe(deployment, plan, run, writer),
        ]
        self._started: list[Probe] = []

    async def start(self) -> None:
        """Start every probe; stop those that run when one cannot start, and raise."""
        try:
            for probe in self.probes:
                self._started.append(probe)
                await probe.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every probe that was started; nothing of them is left afterwards."""
        started, self._started = self._started, []
        await asyncio.gather(*(probe.stop() for probe in started))
