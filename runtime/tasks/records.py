"""Which tasks run, in Redis: kept equal to what this worker runs, whatever is lost on the way.

| key | type | content |
|---|---|---|
| `P:tasks` | hash | task id → item |
| `P:tasks:{task id}` | string, expires | the owner's instance id |
| `P:tasks:item:{item}` | set, expires | task ids |

Writes are level-triggered: the worker knows what should be there and writes until it is. Packets
that arrive late (a held connection) may bring a record of a finished task back; the reconciling
round removes it again. A record that lost its marker is not trusted: the database decides whether
its task runs. Only the owner and `TaskOwner` remove records, never a listing: a worker of another
version may write them differently.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.supervision import Loop, wait_until
from runtime.tasks.store import RUNNING

PERIOD_S = 1.0
RETRY_S = 0.2
BATCH = 200

Command = tuple[Any, ...]
States = Callable[[list[str]], Awaitable[dict[str, str]]]


class TaskRecords:
    """Writes this worker's records; reads everybody's.

    `running()` returns id → item of what this worker runs; `is_finished(id)` tells whether it
    ran the task to its end. `states(ids)` returns the states that the database knows.
    """

    def __init__(
        self, redis: RedisClient, keys: Keys, instance: str, ttl_s: int, states: States
    ) -> None:
        self._redis = redis
        self._states = states
        self._keys = keys
        self._instance = instance
        self._ttl = ttl_s
        self._add: dict[str, str] = {}
        self._remove: dict[str, str] = {}
        self._items: dict[str, str] = {}  # what was written, until it is removed
        self._waiting: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._renewed = time.monotonic()
        self.running: Callable[[], dict[str, str]] = dict
        self.is_finished: Callable[[str], bool] = lambda _: False

    async def add(self, task_id: str, item: str, wait_s: float) -> None:
        """Have a record written; return when it is, or after `wait_s` seconds."""
        self._add[task_id] = self._items[task_id] = item
        self._changed.set()
        if not self._redis.available:
            return
        written = self._waiting[task_id] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await written.wait()
        self._waiting.pop(task_id, None)

    def remove(self, task_id: str) -> None:
        """Have a record removed; also when its writing is still under way."""
        self._add.pop(task_id, None)
        self.forget(task_id, self._items.pop(task_id, ""))

    def forget(self, task_id: str, item: str) -> None:
        """Have the record of an ended task removed, whoever wrote it."""
        self._remove[task_id] = item
        self._changed.set()

    @property
    def pending(self) -> int:
        """Return how many records are not yet as they should be."""
        return len(self._add) + len(self._remove)

    async def keep(self, loop: Loop) -> None:
        """Write changes at once, compare everything each second. Runs for ever."""
        due = 0.0
        while True:
            try:
                await self.flush()
                if time.monotonic() >= due:
                    await self.reconcile()
                    due = time.monotonic() + PERIOD_S
                    continue
                loop.succeeded()
            except RedisUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            await wait_until(self._changed, max(0.0, due - time.monotonic()))

    async def flush(self) -> None:
        """Write what changed until now; what fails stays to be written.

        What changes meanwhile is for the next call: under steady work this one would never end.
        """
        for _ in range(math.ceil(max(len(self._add), len(self._remove)) / BATCH)):
            await self._write_batch()

    async def _write_batch(self) -> None:
        add = dict(list(self._add.items())[:BATCH])
        remove = dict(list(self._remove.items())[:BATCH])
        commands = [c for task in add.items() for c in self._add_commands(*task)]
        commands += [c for task in remove.items() for c in self._remove_commands(*task)]
        await self._redis.pipeline(commands)
        for task_id in add:
            self._written(task_id)
        for task_id in remove:
            self._remove.pop(task_id, None)

    def _written(self, task_id: str) -> None:
        self._add.pop(task_id, None)
        if task_id in self._waiting:
            self._waiting[task_id].set()

    async def reconcile(self) -> None:
        """Bring back records that Redis lost, remove those of finished tasks, renew the rest."""
        listed = await self.all()
        running = self.running()
        for task_id, item in running.items():
            if task_id not in listed or self._renewal_due():
                self._add[task_id] = self._items[task_id] = item
        for task_id, item in listed.items():
            if task_id not in running and self.is_finished(task_id):
                self._remove[task_id] = item
        if self._renewal_due():
            self._renewed = time.monotonic()

    def _renewal_due(self) -> bool:
        return self._ttl > 0 and time.monotonic() - self._renewed > self._ttl / 4

    async def list_all(self) -> list[str]:
        """Return the ids of all tasks whose owner is alive."""
        return await self.alive(list(await self.all()))

    async def list_item(self, item: str) -> list[str]:
        """Return the ids of an item's tasks whose owner is alive."""
        key = self._keys.tasks_item(item)
        members = await self._redis.run(lambda r: r.smembers(key), idempotent=True)
        ids = [_text(member) for member in members]
        if not ids:
            return []
        names = await self._redis.run(lambda r: r.hmget(self._keys.tasks, ids), idempotent=True)
        return await self.alive([i for i, name in zip(ids, names, strict=True) if name])

    async def all(self) -> dict[str, str]:
        """Return id → item of every record."""
        listed = await self._redis.run(lambda r: r.hgetall(self._keys.tasks), idempotent=True)
        return {_text(task_id): _text(item) for task_id, item in listed.items()}

    async def alive(self, ids: list[str]) -> list[str]:
        """Drop tasks without a marker, unless the database knows that they run."""
        if not ids:
            return []
        found = await self._redis.pipeline([("EXISTS", self._keys.task(i)) for i in ids])
        unmarked = [i for i, exists in zip(ids, found, strict=True) if not exists]
        states = await self._states(unmarked)
        dead = {task_id for task_id in unmarked if states.get(task_id) != RUNNING}
        return [task_id for task_id in ids if task_id not in dead]

    def _add_commands(self, task_id: str, item: str) -> list[Command]:
        marker, members = self._keys.task(task_id), self._keys.tasks_item(item)
        expiry = ("EX", self._ttl) if self._ttl > 0 else ()
        commands: list[Command] = [  # the marker first: a task without one counts as dead
            ("SET", marker, self._instance, *expiry),
            ("HSET", self._keys.tasks, task_id, item),
            ("SADD", members, task_id),
        ]
        if self._ttl > 0:
            commands.append(("EXPIRE", members, self._ttl))
        return commands

    def _remove_commands(self, task_id: str, item: str) -> list[Command]:
        return [
            ("HDEL", self._keys.tasks, task_id),
            ("SREM", self._keys.tasks_item(item), task_id),
            ("DEL", self._keys.task(task_id)),
        ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
