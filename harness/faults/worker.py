"""Faults on worker processes: a crash, an orderly end (also one after the other), a hang."""

from __future__ import annotations

import asyncio
import signal
from typing import Any, ClassVar

from harness.clock import monotonic
from harness.deploy.model import Deployment, Process, Worker
from harness.deploy.workers import start_worker
from harness.errors import UserError
from harness.faults.balancer import NO_BALANCER, choose_from
from harness.faults.base import Aim, FaultError
from harness.faults.proofs import Listener, answers_within, expect, proof_of_death, turns_away
from harness.faults.roles import aimed_workers
from harness.faults.signals import Killing, Pausing, SignalFault
from harness.plan import PlannedFault
from harness.waiting import WaitTimeout

ANSWER_S = 5.0  # a continued worker answers
QUESTION = b"GET /health HTTP/1.0\r\n\r\n"


class WorkerFault(SignalFault):
    """A fault on the processes of the workers that have a role."""

    async def aim(self) -> Aim:
        """Resolve the role now."""
        return Aim(workers=await aimed_workers(self))

    @property
    def workers(self) -> list[Worker]:
        """Return the workers it aims at."""
        return [w for w in self.deployment.workers if w.number in self.target.workers]

    def listeners(self) -> list[Listener]:
        """Return them as their processes and how they are asked."""
        return [_listener(worker) for worker in self.workers]


class _Ending(WorkerFault):
    """One that ends workers; healed by starting them again at the same addresses."""

    closes_sockets: ClassVar[bool] = True

    def __init__(self, planned: PlannedFault, deployment: Deployment, context: Any) -> None:
        super().__init__(planned, deployment, context)
        self._back: dict[str, float] = {}  # seconds from start until ready, by instance

    async def heal(self) -> None:
        """Start those that have ended again; returns when they are ready."""
        dead = [each for each in self.workers if _process(each).exit_status is not None]
        await asyncio.gather(*(self.start(worker) for worker in dead))

    async def start(self, worker: Worker) -> None:
        """Start a worker again; returns when it is ready."""
        began, context = monotonic(), self.context
        arguments = (context.guardian, self.deployment, context.run, context.clock)
        try:
            await start_worker(*arguments, worker)
        except UserError as error:
            raise FaultError(str(error)) from error
        self._back[worker.instance] = monotonic() - began

    async def confirm_heal(self) -> str:
        """Say what `start` has waited for: the workers' own word."""
        said = (f"{name} started again, ready after {s:.2f} s" for name, s in self._back.items())
        return "; ".join(said)


class WorkerKill(Killing, _Ending):
    """SIGKILL of workers, all at once."""

    kind: ClassVar[str] = "worker-kill"


class WorkerStop(_Ending):
    """SIGTERM of workers, as a roll-out does it; SIGKILL for those that outlive their grace.

    All at once, and started again at the heal; or `one_by_one`: the next one is stopped as soon
    as the one before is ready again. With `unlisted` the balancer is told before and after.
    """

    kind: ClassVar[str] = "worker-stop"

    def available(self) -> str | None:
        """Return why it cannot run: without a balancer there is no list to be left out of."""
        return NO_BALANCER if self.spec["unlisted"] and not self.deployment.balancer else None

    async def inject(self) -> None:
        """Stop all, or the first."""
        self._asked: dict[int, tuple[Process, float]] = {}
        self._out = False
        await self._ask(self.workers[: 1 if self.spec["one_by_one"] else None])

    async def _ask(self, workers: list[Worker]) -> None:
        if self.spec["unlisted"]:
            self._out = True
            await choose_from(self.deployment, without={worker.number for worker in workers})
        for worker in workers:
            process = _process(worker)
            self.end(process, signal.SIGTERM)
            self._asked[worker.number] = process, monotonic()

    async def confirm(self) -> str:
        """Prove it by the end of each process; one by one, go on until the last is ready."""
        if not self.spec["one_by_one"]:
            return "; ".join(await asyncio.gather(*map(self._ended, self.workers)))
        said = []
        for worker in self.workers:
            if worker.number not in self._asked:
                await self._ask([worker])
            said.append(await self._ended(worker))
            await self.start(worker)
            await self._put_in()
        return "; ".join(said)

    async def heal(self) -> None:
        """Start those that have ended again; then the balancer may choose every worker."""
        await super().heal()
        await self._put_in()

    async def _put_in(self) -> None:
        if self._out:
            await choose_from(self.deployment, without=())
            self._out = False

    async def _ended(self, worker: Worker) -> str:
        """Wait until a worker has ended; return how, and after how long."""
        process, asked = self._asked[worker.number]
        try:
            how = f"ended with status {await process.wait(self.spec['grace_s'])}"
        except WaitTimeout:
            self.end(process, signal.SIGKILL)
            await proof_of_death(_listener(worker))
            how = "outlived its grace and was killed"
        took = monotonic() - asked
        away = await turns_away(worker.instance, worker.address)
        return f"{worker.instance} (pid {process.pid}) {how} {took:.2f} s after SIGTERM and {away}"


class WorkerPause(Pausing, WorkerFault):
    """SIGSTOP of workers: sockets stay open and nothing is answered; healed by SIGCONT."""

    kind: ClassVar[str] = "worker-pause"

    async def heal(self) -> None:
        """Continue them."""
        self._continued = monotonic()
        await super().heal()

    async def confirm_heal(self) -> str:
        """Prove it by an answer."""
        return "; ".join(await asyncio.gather(*map(self._answering, self.workers)))

    async def _answering(self, worker: Worker) -> str:
        label = f"{worker.instance} answers again"
        await expect(lambda: answers_within(worker.address, ANSWER_S, QUESTION), ANSWER_S, label)
        return f"{label} {monotonic() - self._continued:.2f} s after SIGCONT"


def _listener(worker: Worker) -> Listener:
    process, answer = _process(worker), "answer to /health"
    return Listener(worker.instance, process, worker.address, None, QUESTION, answer)


def _process(worker: Worker) -> Process:
    if worker.process is None:
        raise FaultError(f"{worker.instance} has no process of ours to act on")
    return worker.process
