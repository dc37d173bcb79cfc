"""A worker as an owner of tasks: it shows that it lives, and buries owners that do not.

Each worker process counts a number up in the database every two seconds. Whoever sees the number
of another stand still for five looks in a row takes that process for dead: no clocks are compared,
and an observer that was itself asleep has not looked. One transaction, fenced by the number, ends
the dead one's tasks, so only one survivor does it. Then users are told, and the records go.

A process that was taken for dead and is not (it was stopped for a while) notices at its next
count, and ends the tasks that were taken from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from runtime.redis.errors import RedisUnavailable
from runtime.storage.database import DatabaseUnavailable
from runtime.supervision import Loop
from runtime.tasks.records import TaskRecords
from runtime.tasks.registry import Tasks
from runtime.tasks.response_streams import ResponseStreams
from runtime.tasks.store import RUNNING, Interrupted, TaskStore

log = logging.getLogger(__name__)

BEAT_S = 2.0
LOOKS = 5  # unchanged, until a process counts as dead: 10 to 12 s
SWEEP_EVERY = 3  # looks
UNKNOWN_S = 3600.0  # a record that the database knows nothing of is somebody else's till then
STOPS_S = 0.5
TOLD = "The answer was cut off: the server that wrote it has stopped unexpectedly."

EmitToUser = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass
class Seen:
    """The number that a process had, and how many looks found it unchanged."""

    beat: int
    looks: int = 0


class TaskOwner:
    """Beats, buries, and takes stops from the database. `records` is None without Redis."""

    def __init__(
        self,
        store: TaskStore,
        tasks: Tasks,
        streams: ResponseStreams,
        records: TaskRecords | None,
        emit: EmitToUser,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._streams = streams
        self._records = records
        self._emit = emit
        self._seen: dict[str, Seen] = {}
        self._unknown: dict[str, float] = {}  # records of tasks that the database does not have
        self._rounds = 0
        self._left = False
        self.buried = 0  # processes
        self.interrupted = 0  # their tasks
        self.strangers = 0  # running tasks in Redis that the database knows nothing of

    async def start(self) -> None:
        """Become an owner, before the first task. Raises DatabaseUnavailable."""
        await self._store.beat()

    async def leave(self) -> None:
        """Be an owner no more: nothing runs here, or it is interrupted."""
        self._left = True
        await self._store.leave()

    async def keep(self, loop: Loop) -> None:
        """Beat and look after the others. Runs for ever."""
        while True:
            with contextlib.suppress(DatabaseUnavailable, RedisUnavailable):
                await self.beat()
                await self.look()
                if self._rounds % SWEEP_EVERY == 0:
                    await self.sweep()
                loop.succeeded()
            self._rounds += 1
            await asyncio.sleep(BEAT_S)

    async def beat(self) -> None:
        """Count up; when we were taken for dead, end what was taken from us."""
        if self._left or await self._store.beat():
            return
        ours = list(self._tasks.running)
        log.warning("this worker was taken for dead; it has %d tasks", len(ours))
        states = await self._store.states(ours)
        self._tasks.stop_requested([i for i in ours if states.get(i, RUNNING) != RUNNING])

    async def look(self) -> None:
        """See who still counts; bury those who have not for long enough."""
        beats = await self._store.beats()
        beats.pop(self._store.owner, None)
        self._seen = {owner: self._note(owner, beat) for owner, beat in beats.items()}
        for owner, seen in self._seen.items():
            if seen.looks >= LOOKS:
                await self._bury(owner, seen.beat)

    def _note(self, owner: str, beat: int) -> Seen:
        seen = self._seen.get(owner)
        if seen is None or seen.beat != beat:
            return Seen(beat)
        return Seen(beat, seen.looks + 1)

    async def _bury(self, owner: str, beat: int) -> None:
        ended = await self._store.bury(owner, beat)
        if ended is None:
            return
        self.buried += 1
        self.interrupted += len(ended)
        log.warning("worker %s is dead; %d of its tasks were running", owner, len(ended))
        with contextlib.suppress(DatabaseUnavailable):  # users have to be told all the same
            await self._save_text(ended)
        for task in ended:
            if self._records is not None:
                self._records.forget(task.task_id, task.chat_id)
            await self._tell(task)
        self._streams.forget([task.task_id for task in ended])

    async def _save_text(self, ended: list[Interrupted]) -> None:
        """Give the messages what Redis has beyond what the dead worker had saved."""
        known = {task.task_id: task.sequence for task in ended}
        for partial in (await self._streams.read(list(known))).values():
            if partial.sequence > known[partial.task_id]:
                await self._store.complete(partial)

    async def _tell(self, task: Interrupted) -> None:
        events: list[dict[str, Any]] = [
            {"type": "chat:message:error", "data": {"error": {"content": TOLD}}}
        ]
        if task.idle:
            events.append({"type": "chat:active", "data": {"active": False}})
        where = {"chat_id": task.chat_id, "message_id": task.message_id}
        for event in events:
            await self._emit(task.user_id, {**where, "data": event})

    async def sweep(self) -> None:
        """Remove records of tasks that have ended, whoever left them."""
        if self._records is None:
            return
        ours = self._tasks.running
        listed = {i: item for i, item in (await self._records.all()).items() if i not in ours}
        states = await self._store.states(list(listed))
        now = time.monotonic()
        self._unknown = {i: self._unknown.get(i, now) for i in listed if i not in states}
        self.note_strangers(len(await self._records.alive(list(self._unknown))))
        ended = {task_id for task_id, state in states.items() if state != RUNNING}
        ended |= {i for i, since in self._unknown.items() if now - since > UNKNOWN_S}
        for task_id in ended:
            self._records.forget(task_id, listed[task_id])

    def note_strangers(self, found: int) -> None:
        """Say once that somebody else's tasks are here: rows are written before records."""
        if found and not self.strangers:
            log.warning(
                "%d running tasks in Redis are not of this database: another installation uses "
                "the same Redis and REDIS_KEY_PREFIX; give each a prefix of its own",
                found,
            )
        self.strangers = found

    async def take_stops(self, loop: Loop) -> None:
        """Stop what somebody wants stopped, also while Redis is away. Runs for ever."""
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                if self._tasks.running:
                    self._tasks.stop_requested(await self._store.stops_requested())
                loop.succeeded()
            await asyncio.sleep(STOPS_S)

    @property
    def status(self) -> dict[str, Any]:
        """Return whom this worker watches, and what it had to bury."""
        return {
            "others": len(self._seen),
            "buried": self.buried,
            "interrupted": self.interrupted,
            "strangers": self.strangers,
        }
