"""Faults on the balancer: reloaded, restarted, and told to leave workers out."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Collection
from typing import ClassVar

import aiohttp
import psutil

from harness.deploy.balancer import launch_balancer, write_configuration
from harness.deploy.model import SERVED_HEADER, Balancer, Deployment, Process
from harness.deploy.service import answered
from harness.errors import UserError
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.proofs import expect, turns_away
from harness.faults.roles import aimed_workers
from harness.faults.sockets import established
from harness.waiting import WaitTimeout, wait_for

NO_BALANCER = "needs a balancer, and there is none: the scenario says no `balancer: nginx`"
CHANGE_S = 5.0
ANSWER_S = 5.0
LOOKS = 20  # requests that show whom it chooses from


class BalancerFault(Fault):
    """`reload` by SIGHUP: open sockets stay. `restart` by SIGTERM: all are closed until the heal.

    A reloaded nginx starts a new worker process for what comes, and leaves to the old one what is
    open, for as long as it is.
    """

    kind: ClassVar[str] = "balancer"

    @property
    def closes_sockets(self) -> bool:
        """Tell whether users lose their sockets by design."""
        return bool(self.spec["action"] == "restart")

    @property
    def balancer(self) -> Balancer:
        """Return the balancer; raise FaultError when there is none."""
        return _balancer(self.deployment)

    @property
    def process(self) -> Process:
        """Return its first process, which guards the others."""
        return _process(self.deployment)

    def available(self) -> str | None:
        """Return why it cannot run: without a balancer there is nothing to act on."""
        return NO_BALANCER if self.deployment.balancer is None else None

    async def aim(self) -> Aim:
        """Aim at no node and no worker: there is one balancer."""
        return Aim()

    async def inject(self) -> None:
        """Send the signal of the action."""
        self._process, self._children = self.process, _children(self.process)
        self._open = self._connections()
        if self.closes_sockets:
            self.context.expect_exit(self._process)
            self._process.signal(signal.SIGTERM)
        else:
            self._process.signal(signal.SIGHUP)

    async def confirm(self) -> str:
        """Prove that it ended and refuses, or that a new worker process took over."""
        try:
            return await (self._ended() if self.closes_sockets else self._reloaded())
        except (WaitTimeout, psutil.Error) as error:
            raise FaultError(f"balancer {self.spec['action']}: {error}") from error

    async def heal(self) -> None:
        """Start a stopped balancer again; a reload is over by itself."""
        if not self.closes_sockets or self.process.exit_status is None:
            return
        try:
            await launch_balancer(self.context.guardian, self.balancer)
        except UserError as error:
            raise FaultError(str(error)) from error

    async def confirm_heal(self) -> str:
        """Prove that it answers for a worker."""
        try:
            await answered(self.process, f"{self.balancer.url}/health", ANSWER_S)
        except UserError as error:
            raise FaultError(str(error)) from error
        old = self._children & _children(self.process)
        kept = f"; pid {_list(old)} serves what was open before" if old else ""
        return f"it answers for a worker, {self._connections()} connections{kept}"

    async def _ended(self) -> str:
        status = await self._process.wait(CHANGE_S)
        how = await turns_away("the balancer", self.balancer.address)
        return (
            f"nginx (pid {self._process.pid}) ended with status {status} and {how}; "
            f"{self._open} were open"
        )

    async def _reloaded(self) -> str:
        def new() -> set[int]:
            return _children(self._process) - self._children

        found = await wait_for(new, CHANGE_S, "the balancer starts a new worker process")
        return (
            f"worker process {_list(self._children)} of nginx was followed by {_list(found)}; "
            f"{self._open} connections before, {self._connections()} now"
        )

    def _connections(self) -> int:
        """Return how many connections users have to it, as the kernel lists them."""
        return len(established({self.balancer.address}))


class BalancerRemove(Fault):
    """Workers are left out of the list that it chooses from; healed by the whole list.

    Sockets that go through it stay, also to a worker that is left out: its old worker process
    carries them on.
    """

    kind: ClassVar[str] = "balancer-remove"

    def available(self) -> str | None:
        """Return why it cannot run: without a balancer there is no list."""
        return NO_BALANCER if self.deployment.balancer is None else None

    async def aim(self) -> Aim:
        """Resolve the role of the workers now."""
        return Aim(workers=await aimed_workers(self))

    async def inject(self) -> None:
        """Leave them out."""
        await choose_from(self.deployment, without=self.target.workers)

    async def confirm(self) -> str:
        """Prove it by requests of which none reaches them."""
        seen: Counter[int] = await expect(self._spared, CHANGE_S, "nobody else is chosen")
        return f"of {LOOKS} requests: {_shares(seen)}"

    async def _spared(self) -> Counter[int] | None:
        seen = await chosen(self.deployment)
        return None if set(seen) & set(self.target.workers) else seen

    async def heal(self) -> None:
        """Choose from all again."""
        await choose_from(self.deployment, without=())

    async def confirm_heal(self) -> str:
        """Prove it by requests that reach them."""
        seen: Counter[int] = await expect(self._back, CHANGE_S, "they are chosen again")
        return f"of {LOOKS} requests: {_shares(seen)}"

    async def _back(self) -> Counter[int] | None:
        seen = await chosen(self.deployment)
        return seen if set(self.target.workers) <= set(seen) else None


async def choose_from(deployment: Deployment, without: Collection[int]) -> None:
    """Reload it with another list of workers; return when only who knows the list takes requests.

    Raises FaultError when nobody would be left, or no new process takes over.
    """
    if not {worker.number for worker in deployment.workers} - set(without):
        raise FaultError("the balancer would have no worker left to choose")
    process = _process(deployment)
    before = _children(process)
    write_configuration(_balancer(deployment), deployment.workers, without)
    process.signal(signal.SIGHUP)

    def taken_over() -> bool:
        return bool(_children(process) - before) and not any(map(_listens, before))

    await expect(taken_over, CHANGE_S, "a new worker process of the balancer takes over")


async def chosen(deployment: Deployment) -> Counter[int]:
    """Return how many of some requests without a pin reached each worker."""
    numbers = {f"{worker.host}:{worker.port}": worker.number for worker in deployment.workers}
    seen: Counter[int] = Counter()
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    each_anew = aiohttp.TCPConnector(force_close=True)  # kept ones stay with an old process
    async with aiohttp.ClientSession(timeout=timeout, connector=each_anew) as http:
        for _ in range(LOOKS):
            async with http.get(f"{_balancer(deployment).url}/health") as answer:
                last = answer.headers[SERVED_HEADER].rpartition(",")[2].strip()
                seen[numbers[last]] += 1
    return seen


def _shares(seen: Counter[int]) -> str:
    return ", ".join(f"{count} to worker-{number}" for number, count in sorted(seen.items()))


def _balancer(deployment: Deployment) -> Balancer:
    if deployment.balancer is None:
        raise FaultError(NO_BALANCER)
    return deployment.balancer


def _process(deployment: Deployment) -> Process:
    if (process := _balancer(deployment).process) is None:
        raise FaultError("the balancer has no process of ours to act on")
    return process


def _children(process: Process) -> set[int]:
    """Return the pids of nginx's worker processes."""
    return {child.pid for child in psutil.Process(process.pid).children()}


def _listens(pid: int) -> bool:
    """Tell whether a worker process of nginx takes new connections; no when it is gone."""
    try:
        return any(c.status == psutil.CONN_LISTEN for c in psutil.Process(pid).net_connections())
    except psutil.Error:
        return False


def _list(pids: set[int]) -> str:
    return ", ".join(map(str, sorted(pids)))
