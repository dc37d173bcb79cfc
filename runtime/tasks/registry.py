"""Background tasks that every worker can list and stop.

A task runs on one worker, its owner. Records in Redis say which tasks run (`TaskRecords`); a stop
is an intent that outlives lost messages and lost connections (`StopIntents`). This module holds
the owner's side and joins the three.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from runtime.tasks.records import TaskRecords
from runtime.tasks.stops import CANCELLED, FINISHED, REQUESTED, KeepStop, StopIntents

log = logging.getLogger(__name__)

REMEMBER_FINISHED_S = 900.0  # longer than any late packet or intent lives
REMEMBERED = 50_000
CLOSE_WITHIN_S = 2.0
REGISTERED_WITHIN_S = 0.1  # how long the work waits for its record: it is in the database anyway


class Draining(Exception):
    """The worker is shutting down and takes no new tasks."""


@dataclass
class LocalTask:
    """A task that this worker owns."""

    id: str
    item: str
    started: float = field(default_factory=time.monotonic)
    registered: asyncio.Event = field(default_factory=asyncio.Event)
    begun: bool = False
    stopping: bool = False
    job: asyncio.Task[None] = field(init=False)


class Tasks:
    """The tasks of this worker, and the way to those of the others.

    Without Redis (`records` and `intents` None) the others' are not listed, and learn of stops
    from the database alone: `keep_stop(task_id)` puts one there.
    """

    def __init__(
        self,
        keep_stop: KeepStop,
        records: TaskRecords | None = None,
        intents: StopIntents | None = None,
    ) -> None:
        self._keep_stop = keep_stop
        self._records = records
        self._intents = intents
        self._running: dict[str, LocalTask] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._draining = False

    # the owner's side

    async def start(self, task_id: str, item: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` in the background under this id; raise Draining during a shutdown.

        The work begins, and this returns, once the task is listed, or after 0.1 s: without Redis
        it is listed later.
        """
        if self._draining:
            raise Draining
        task = self._running[task_id] = LocalTask(task_id, item)
        task.job = asyncio.create_task(self._run(task, work), name=f"task {task_id}")
        await task.registered.wait()

    async def _run(self, task: LocalTask, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._register(task)
            await work()
        except asyncio.CancelledError:
            pass  # stopped before it could say so itself
        except Exception:  # nobody awaits the task
            log.exception("task %s failed", task.id)
        finally:
            self.ended(task.id)

    async def _register(self, task: LocalTask) -> None:
        """List the task. A stop that came meanwhile reaches `work` at its first wait."""
        try:
            if self._records is not None:
                await self._records.add(task.id, task.item, REGISTERED_WITHIN_S)
        finally:
            task.registered.set()
        task.begun = True
        if task.stopping:
            task.job.cancel()

    def ended(self, task_id: str) -> None:
        """Forget a task: here first, in Redis as soon as that is possible.

        `work` calls it once its outcome is settled, so that a late stop cannot tear its end apart.
        """
        task = self._running.pop(task_id, None)
        if task is None:
            return
        self._closing.add(task.job)
        task.job.add_done_callback(self._closing.discard)
        self._remember_finished(task_id)
        self._unregister(task_id)

    def _unregister(self, task_id: str) -> None:
        if self._records is not None:
            self._records.remove(task_id)

    def _remember_finished(self, task_id: str) -> None:
        now = time.monotonic()
        self._finished[task_id] = now
        oldest = next(iter(self._finished.values()))
        if now - oldest > REMEMBER_FINISHED_S or len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)

    def is_running(self, task_id: str) -> bool:
        """Tell whether this worker runs the task."""
        return task_id in self._running

    def is_finished(self, task_id: str) -> bool:
        """Tell whether this worker ran the task and it ended."""
        return task_id in self._finished

    @property
    def running(self) -> dict[str, str]:
        """Return id → item of every task that this worker runs."""
        return {task.id: task.item for task in self._running.values()}

    def cancel(self, task_id: str) -> str | None:
        """Stop a task of this worker; return cancelled, finished, or None when it is not ours."""
        task = self._running.get(task_id)
        if task is None:
            return FINISHED if task_id in self._finished else None
        if not task.stopping:
            task.stopping = True
            if task.begun:  # before that the clean-up of `work` would not run
                task.job.cancel()
        return CANCELLED

    # everybody's side

    async def stop(self, task_id: str) -> str:
        """Stop a task wherever it runs; return cancelled, finished or requested.

        The caller knows that the task exists. `requested` means that the stop is kept, and asked
        for again, until the owner confirms it.
        """
        state = self.cancel(task_id)
        if state is not None:
            return state
        if self._intents is None:
            await self._keep_stop(task_id)
            return REQUESTED
        return await self._intents.request(task_id)

    def stop_requested(self, ids: list[str]) -> None:
        """Stop those of the tasks that are ours."""
        for task_id in ids:
            self.cancel(task_id)

    async def list_all(self) -> list[str]:
        """Return all running tasks; raise RedisUnavailable when the others' are not known."""
        if self._records is None:
            return list(self._running)
        return self._merge(await self._records.list_all(), set(self._running))

    async def list_item(self, item: str) -> list[str]:
        """Return an item's running tasks; raise RedisUnavailable when others' are not known."""
        own = {task.id for task in self._running.values() if task.item == item}
        if self._records is None:
            return list(own)
        return self._merge(await self._records.list_item(item), own)

    def _merge(self, listed: list[str], own: set[str]) -> list[str]:
        """Return what is listed, corrected by what this worker knows better."""
        return sorted(own | {task_id for task_id in listed if task_id not in self._finished})

    # shutdown

    async def drain(self, deadline: float) -> None:
        """Take no new tasks; let running ones finish, stop the rest after `deadline` seconds."""
        self._draining = True
        if jobs := [task.job for task in self._running.values()]:
            await asyncio.wait(jobs, timeout=deadline)
        for task_id in list(self._running):
            self.cancel(task_id)
        if left := {*self._closing, *(task.job for task in self._running.values())}:
            await asyncio.wait(left, timeout=CLOSE_WITHIN_S)


__all__ = ["CANCELLED", "FINISHED", "REQUESTED", "Draining", "Tasks"]
