"""Faults on worker processes: a crash, healed by starting the worker again."""

from __future__ import annotations

import asyncio
import signal
from typing import ClassVar

from harness.clock import monotonic
from harness.deploy.model import Process, Worker
from harness.deploy.workers import start_worker
from harness.errors import UserError
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.proofs import proof_of_death
from harness.faults.roles import aimed_workers


class WorkerKill(Fault):
    """SIGKILL of workers; healed by starting them again at the same addresses."""

    kind: ClassVar[str] = "worker-kill"
    closes_sockets: ClassVar[bool] = True

    async def aim(self) -> Aim:
        """Resolve the role now."""
        return Aim(workers=await aimed_workers(self))

    @property
    def workers(self) -> list[Worker]:
        """Return the workers it aims at."""
        return [w for w in self.deployment.workers if w.number in self.target.workers]

    async def inject(self) -> None:
        """Kill every worker of the aim at once."""
        self._killed = [_process(worker) for worker in self.workers]
        for process in self._killed:
            self.context.expect_exit(process)
            process.signal(signal.SIGKILL)

    async def confirm(self) -> str:
        """Prove it by exit status -9 and a refused connection."""
        pairs = zip(self.workers, self._killed, strict=True)
        return "; ".join(
            await asyncio.gather(*(proof_of_death(w.instance, p, w.address) for w, p in pairs))
        )

    async def heal(self) -> None:
        """Start them again; returns when they are ready."""
        self._began = monotonic()
        context = self.context
        arguments = (context.guardian, self.deployment, context.run, context.clock)
        try:
            await asyncio.gather(
                *(
                    start_worker(*arguments, worker)
                    for worker in self.workers
                    if _process(worker).exit_status is not None
                )
            )
        except UserError as error:
            raise FaultError(str(error)) from error

    async def confirm_heal(self) -> str:
        """Say what `heal` has waited for: the workers' own word."""
        names = ", ".join(worker.instance for worker in self.workers)
        return f"{names} started again, ready after {monotonic() - self._began:.2f} s"


def _process(worker: Worker) -> Process:
    if worker.process is None:
        raise FaultError(f"{worker.instance} has no process of ours to act on")
    return worker.process
