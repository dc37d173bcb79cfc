"""How a run comes by its deployment: it starts one, or attaches to one that runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.deploy.balancer import start_balancer
from harness.deploy.collector import start_collector
from harness.deploy.database import start_database
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.model import Deployment, Host
from harness.deploy.provider import start_provider
from harness.deploy.redis import launch_redis, place_redis
from harness.deploy.workers import detours_file, start_workers
from harness.faults.absent import Absence
from harness.history.writer import HistoryWriter
from harness.load.prepare import prepare
from harness.network.links import Links
from harness.network.toxiproxy import find_toxiproxy, start_toxiproxy
from harness.plan import Plan
from harness.scenario import Scenario
from harness.targets.base import TRACES
from harness.targets.subject import Subject

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian


class Deployer:
    """Starts the deployment of one run under its guardian."""

    def __init__(
        self,
        scenario: Scenario,
        subject: Subject,
        run: RunFolder,
        writer: HistoryWriter,
        say: Callable[[str], None],
        forward: str = "",
    ) -> None:
        self.scenario = scenario
        self.subject = subject
        self.run = run
        self.writer = writer
        self.clock = writer.clock
        self.say = say
        self.forward = forward  # another collector, for the spans as well
        self.links: Links | None = None
        self.host: Host | None = None

    async def deploy(self, guardian: Guardian, subnet: str) -> Deployment:
        """Start everything the workers need at once, then the workers, then what is before them."""
        self.host = host = self._host(guardian)
        deployment = self.subject.deployment(self.scenario.topology, subnet)
        deployment.variables = self.scenario.environment
        await asyncio.gather(
            self._redis(host, deployment),
            start_provider(guardian, deployment, self.run, self.clock),
            start_database(guardian, deployment, self.scenario, self.say),
            self._collector(guardian, deployment),
        )
        await self._link(guardian, deployment, host)
        await self._workers(guardian, deployment)
        if self.scenario.balancer == "nginx":
            boxed = host.boxed(self.scenario.images.nginx)
            await start_balancer(guardian, deployment, self.run, boxed)
        return deployment

    async def _collector(self, guardian: Guardian, deployment: Deployment) -> None:
        """Start the collector when the scenario wants traces and the target sends any."""
        if (telemetry := self.scenario.telemetry) is None:
            return
        target = deployment.target
        if TRACES not in target.capabilities:
            self.say(f"no traces: target {target.label} does not offer {TRACES}")
            return
        await start_collector(guardian, deployment, self.run, self.clock, telemetry, self.forward)

    async def _redis(self, host: Host, deployment: Deployment) -> None:
        """Start Redis, or only make ready for it when the workers are to come first."""
        await place_redis(host, deployment, self.scenario.redis, self.run)
        if not self.scenario.redis.absent_at_boot_s:
            await launch_redis(deployment, self.scenario.redis)

    async def _workers(self, guardian: Guardian, deployment: Deployment) -> None:
        scenario, run = self.scenario, self.run
        if scenario.redis.absent_at_boot_s:
            absence = Absence(guardian, deployment, scenario.redis, run, self.writer)
            await absence.start(scenario.workers)
        else:
            await start_workers(guardian, deployment, run, self.clock, scenario.workers)

    async def prepare(self, deployment: Deployment, plan: Plan) -> None:
        """Make the accounts and tokens of the load."""
        await prepare(deployment, plan, self.run, self.clock)

    async def close(self) -> None:
        """Let go of what the run holds; the guardian ends the rest."""
        if self.links is not None:
            await self.links.close()
        if self.host is not None:
            await self.host.close()

    def ended(self, guardian: Guardian) -> None:
        """Hear the guardian's last words; a run's own parts leave nothing to tell."""

    def _host(self, guardian: Guardian) -> Host:
        if self.scenario.host == "processes":
            return ProcessHost(guardian)
        from harness.deploy.containers import ContainerHost

        images = dict(self.scenario.used_images)
        return ContainerHost(guardian, self.run, images.pop("redis"), tuple(images.values()))

    async def _link(self, guardian: Guardian, deployment: Deployment, host: Host) -> None:
        boxed = host.boxed(self.scenario.images.toxiproxy)
        if boxed is None and find_toxiproxy() is None:
            self.say("Toxiproxy is missing: workers dial Redis directly (make setup)")
            return
        await start_toxiproxy(guardian, deployment, boxed)
        self.links = Links(deployment, detours_file(self.run))
        await self.links.create(self.scenario.workers)
