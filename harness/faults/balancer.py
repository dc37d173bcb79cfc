"""Faults on the balancer: reloaded as at every change of its configuration, or restarted."""

from __future__ import annotations

import signal
from typing import ClassVar

import psutil

from harness.deploy.balancer import launch_balancer
from harness.deploy.model import Balancer, Process
from harness.deploy.service import answered
from harness.errors import UserError
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.proofs import turns_away
from harness.faults.sockets import established
from harness.waiting import WaitTimeout, wait_for

NO_BALANCER = "needs a balancer, and there is none: the scenario says no `balancer: nginx`"
CHANGE_S = 5.0
ANSWER_S = 5.0


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
        if self.deployment.balancer is None:
            raise FaultError(NO_BALANCER)
        return self.deployment.balancer

    @property
    def process(self) -> Process:
        """Return its first process, which guards the others."""
        if (process := self.balancer.process) is None:
            raise FaultError("the balancer has no process of ours to act on")
        return process

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


def _children(process: Process) -> set[int]:
    """Return the pids of nginx's worker processes."""
    return {child.pid for child in psutil.Process(process.pid).children()}


def _list(pids: set[int]) -> str:
    return ", ".join(map(str, sorted(pids)))
