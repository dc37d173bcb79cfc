"""The timeline of faults on the run clock: inject, confirm, heal, confirm again, and record it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from harness.clock import RunClock
from harness.deploy.model import Deployment
from harness.errors import UserError
from harness.faults.balancer import BalancerFault, BalancerRemove
from harness.faults.base import Fault, FaultError
from harness.faults.context import FaultContext, NotInjectedError
from harness.faults.database import DatabaseExhausted, DatabasePause, DatabaseRestart
from harness.faults.network import Cut, Latency
from harness.faults.partition import Partition
from harness.faults.pressure import ConnectStorm, Fill, Flood
from harness.faults.process import Kill, Pause
from harness.faults.server import ClientKill, ClientPause, Config, Failover, Flush
from harness.faults.slots import SlotMove
from harness.faults.worker import WorkerKill, WorkerPause, WorkerStop
from harness.history.writer import HistoryWriter
from harness.plan import Plan, PlannedFault

FAMILIES = (
    *(Kill, Pause, Latency, Cut, Partition, Failover, ClientKill, ClientPause, Config, Flush),
    *(SlotMove, Flood, Fill, ConnectStorm),
    *(WorkerKill, WorkerStop, WorkerPause, BalancerFault, BalancerRemove),
    *(DatabaseRestart, DatabasePause, DatabaseExhausted),
)
KINDS: dict[str, type[Fault]] = {kind.kind: kind for kind in FAMILIES}
MARKS = ("loses_data", "closes_sockets")  # what a fault does by design; checks excuse it
HEAL_S = 20.0  # one heal after an interruption; several go on at the same time


class Injector:
    """Injects the faults of a plan, each at its instant, whatever happens to the others.

    A fault that cannot be aimed, injected, confirmed or healed is recorded as event `error`;
    the others go on. Whatever is injected is healed before `run` returns or raises.
    """

    def __init__(
        self,
        plan: Plan,
        deployment: Deployment,
        context: FaultContext,
        writer: HistoryWriter,
        clock: RunClock,
    ) -> None:
        context.seed = plan.seed
        self._context = context
        self._writer = writer
        self._clock = clock
        self._faults = [_fault(planned, deployment, context) for planned in plan.faults]
        self._injected: dict[str, Fault] = {}

    @property
    def current(self) -> str | None:
        """Return the names of the faults that are injected right now; None when there is none."""
        return ", ".join(name_of(fault) for fault in self._injected.values()) or None

    def unavailable(self) -> list[str]:
        """Return why faults of the plan cannot run on this deployment, one sentence each."""
        reasons = ((fault, fault.available()) for fault in self._faults)
        return [f"fault {f.planned.id} ({name_of(f)}) {reason}" for f, reason in reasons if reason]

    async def run(self, t0: float) -> None:
        """Go through the timeline; `t0` is load second 0 on the run clock.

        Returns when every fault is healed and confirmed. On cancellation heals what is injected.
        """
        tasks = [asyncio.create_task(self._one(fault, t0)) for fault in self._faults]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await _through_cancellation(self._heal_rest(tasks))

    async def _one(self, fault: Fault, t0: float) -> None:
        await self._until(t0 + fault.planned.at)
        if await self._attempt(fault, "inject", lambda: self._inject(fault)):
            prove = self._prove
            await self._attempt(fault, "confirm", lambda: prove(fault, "confirm", fault.confirm))
        elif fault.planned.id not in self._injected:
            return
        await self._until(t0 + fault.planned.until)
        if await self._attempt(fault, "heal", lambda: self._heal(fault)):
            await self._attempt(
                fault,
                "confirm_heal",
                lambda: self._prove(fault, "confirm_heal", fault.confirm_heal),
            )

    async def _until(self, instant: float) -> None:
        await asyncio.sleep(max(0.0, instant - self._clock.now()))

    async def _inject(self, fault: Fault) -> None:
        if reason := fault.available():
            raise FaultError(reason)
        fault.target = self._context.aims.get(fault.planned.id) or await fault.aim()
        self._injected[fault.planned.id] = fault
        began = self._clock.now()
        try:
            await fault.inject()
        except NotInjectedError:
            del self._injected[fault.planned.id]
            raise
        spec = {key: value for key, value in fault.spec.items() if key not in ("at", "name")}
        marks = {mark: bool(getattr(fault, mark, False)) for mark in MARKS}
        self._record(fault, "inject", t=began, spec=spec, **marks)

    async def _prove(self, fault: Fault, event: str, proof: Callable[[], Awaitable[str]]) -> None:
        self._record(fault, event, evidence=await proof())

    async def _heal(self, fault: Fault) -> None:
        began = self._clock.now()
        await fault.heal()
        self._injected.pop(fault.planned.id, None)
        self._record(fault, "heal", began=began)

    async def _attempt(self, fault: Fault, step: str, act: Callable[[], Awaitable[None]]) -> bool:
        """Do a step; record its failure instead of raising it. Remarks are written as notes."""
        try:
            await act()
        except Exception as error:  # the other faults go on
            text = f"{step}: {type(error).__name__}: {error}"
            self._record(fault, "error", step=step, text=text, evidence="")
            return False
        finally:
            self._write_notes(fault)
        return True

    async def _heal_rest(self, tasks: list[asyncio.Task[None]]) -> None:
        """Heal what is still injected, all at once, each within its own deadline."""
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._heal_late(fault) for fault in [*self._injected.values()]))

    async def _heal_late(self, fault: Fault) -> None:
        async def act() -> None:
            await asyncio.wait_for(self._heal(fault), HEAL_S)

        await self._attempt(fault, "heal", act)

    def _write_notes(self, fault: Fault) -> None:
        notes, self._context.notes[:] = [*self._context.notes], []
        for note in notes:
            self._writer.record("note", level="info", text=f"fault {fault.planned.id}: {note}")

    def _record(self, fault: Fault, event: str, t: float | None = None, **fields: Any) -> None:
        self._writer.record(
            "fault",
            t=t,
            id=fault.planned.id,
            event=event,
            name=name_of(fault),
            kind=fault.kind,
            target=_role(fault),
            nodes=fault.target.nodes,
            workers=fault.target.workers,
            **fields,
        )


def _fault(planned: PlannedFault, deployment: Deployment, context: FaultContext) -> Fault:
    kind = planned.spec["kind"]
    if kind not in KINDS:
        raise UserError(
            f"plan: fault {planned.id} has kind {kind!r}; expected one of {', '.join(KINDS)}"
        )
    return KINDS[kind](planned, deployment, context)


def name_of(fault: Fault) -> str:
    """Return the fault's name in the scenario, else one made of kind, mode and target."""
    spec = fault.spec
    words = (spec["kind"], spec.get("mode") or spec.get("action"), _role(fault))
    return spec.get("name") or " ".join(word for word in words if word)


async def _through_cancellation(work: Coroutine[Any, Any, None]) -> None:
    """Finish bounded work although the caller is cancelled, even more than once."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


def _role(fault: Fault) -> str:
    """Return the role that it aims at: nodes, or workers where no node is hit, or neither."""
    return str(fault.spec.get("target") or fault.spec.get("workers") or "")
