"""Redis is not there when the workers start: they have to come up, wait, and serve once it is.

It happens while the deployment starts, so no plan has it; its evidence is recorded as a fault's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from harness.clock import monotonic
from harness.deploy.direct import tls_of
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.deploy.redis import launch_redis
from harness.deploy.workers import place_workers, start_worker
from harness.errors import UserError
from harness.faults.proofs import turns_away
from harness.history.writer import HistoryWriter
from harness.scenario import Redis
from harness.targets.base import READY
from harness.waiting import wait_for

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

ID, KIND, NAME = "boot", "absent", "Redis absent at boot"  # the id is known to checks/facts.py
PACE_S = 0.1  # between questions to a worker that starts
ASK_S = 1.0


@dataclass
class Absence:
    """Starts workers first and Redis later; a worker that dies of it is recorded and started again.

    `died` holds the message of each worker that ended while Redis was away, by number.
    """

    guardian: Guardian
    deployment: Deployment
    redis: Redis
    run: RunFolder
    writer: HistoryWriter
    died: dict[int, str] = field(default_factory=dict)

    async def start(self, workers: int) -> None:
        """Start workers without Redis, then Redis; return when all workers are ready.

        Raises UserError for a worker that does not become ready although Redis is there.
        """
        place_workers(self.deployment, workers)
        self._record("inject", spec={"absent_at_boot_s": self.redis.absent_at_boot_s})
        starts = [asyncio.create_task(self._start(each)) for each in self.deployment.workers]
        try:
            await asyncio.gather(*map(self._is_up, self.deployment.workers))
            await asyncio.sleep(self.redis.absent_at_boot_s)
            self._record("confirm", evidence=await self._evidence())
            await launch_redis(self.deployment, self.redis)
            self._record("heal", began=self.writer.clock.now())
            self._record("confirm_heal", evidence=await self._all_ready(starts))
        finally:
            for start in starts:
                start.cancel()

    async def _start(self, worker: Worker) -> None:
        """Start one worker; its end is kept, and recorded as no fault's doing."""
        try:
            await self._begin(worker)
        except UserError as error:
            process = worker.process
            if process is None or process.exit_status is None:
                raise
            self.died[worker.number] = str(error)
            status = process.exit_status
            self.writer.record(
                "exit", name=process.name, pid=process.pid, status=status, expected=False
            )

    async def _begin(self, worker: Worker) -> None:
        await start_worker(self.guardian, self.deployment, self.run, self.writer.clock, worker)

    async def _is_up(self, worker: Worker) -> None:
        async def up_or_dead() -> bool:
            await asyncio.sleep(PACE_S)
            return worker.number in self.died or await _status(worker, "/health") > 0

        label = f"{worker.instance} answers without Redis"
        _: bool = await wait_for(up_or_dead, self.deployment.target.ready_s, label)

    async def _evidence(self) -> str:
        """Prove that nobody is where Redis will be; tell what the workers say meanwhile."""
        nodes = [*self.deployment.nodes, *self.deployment.sentinels]
        away = await asyncio.gather(
            *(turns_away(node.name, node.address, tls_of(node)) for node in nodes)
        )
        said = await asyncio.gather(*map(self._state, self.deployment.workers))
        pairs = zip(nodes, away, strict=True)
        return "; ".join([*(f"{node.name} {how}" for node, how in pairs), *said])

    async def _state(self, worker: Worker) -> str:
        if worker.number in self.died:
            return f"{worker.instance} has ended"
        health = await _status(worker, "/health")
        if READY not in self.deployment.target.capabilities:
            return f"{worker.instance} is up (/health {health})"
        ready = await _status(worker, "/ready")
        said = "says that it is ready" if ready == 200 else "is not ready"
        return f"{worker.instance} is up (/health {health}) and {said} (/ready {ready})"

    async def _all_ready(self, starts: list[asyncio.Task[None]]) -> str:
        began = monotonic()
        await asyncio.gather(*starts)
        dead = [worker for worker in self.deployment.workers if worker.number in self.died]
        await asyncio.gather(*map(self._begin, dead))
        took = f"all workers are ready {monotonic() - began:.2f} s after Redis came"
        names = ", ".join(worker.instance for worker in dead)
        return f"{took}; {names} had to be started again" if dead else took

    def _record(self, event: str, **fields: Any) -> None:
        self.writer.record(
            "fault",
            id=ID,
            event=event,
            name=NAME,
            kind=KIND,
            target="all-nodes",
            nodes=[node.name for node in self.deployment.nodes],
            workers=[],
            **fields,
        )


async def _status(worker: Worker, path: str) -> int:
    """Return the status of an answer, 0 for none."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(worker.url + path) as answer,
        ):
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0
