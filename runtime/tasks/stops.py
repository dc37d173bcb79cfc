"""Stops that arrive: a durable intent beside the message.

Whoever acknowledges a stop (the acker) writes the intent into the hash `P:tasks:stops`, then
publishes it, and keeps it in memory: while no confirmation is seen, it is written and published
again. The owner looks at the hash after each (re)subscription and twice a second, stops the task
and confirms in the same field. So a lost message costs at most half a second, and an intent that
Redis lost is written anew. An intent without an owner ends after a minute.

A stop that its owner did not confirm at once is in the database before it is answered: it
outlives Redis and the acker, and owners look there too (`TaskOwner`).

A field is `requested|<epoch seconds>`, then `cancelled|…` or `finished|…`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.supervision import Loop, wait_until
from runtime.tasks.records import Command
from runtime.telemetry import spans

log = logging.getLogger(__name__)

REQUESTED, CANCELLED, FINISHED, NOT_FOUND = "requested", "cancelled", "finished", "not_found"
RECEIVED = {"messaging.system": "redis", "messaging.operation.type": "receive"}
ASK_AGAIN_S = 0.25
RECONCILE_S = 0.5
INTENT_LIFE_S = 60.0
WRITE_WITHIN_S = 0.5  # how long an answer waits for the intent to be written
CONFIRMED_WITHIN_S = 0.05  # how long it waits for the owner

# Confirm the stop ARGV[1] of the intents KEYS[1], when it is still asked for: an owner may read
# an intent twice, and its second confirmation must not come back after the acker removed it.
CONFIRM = """\
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 0"""


KeepStop = Callable[[str], Awaitable[None]]


class StopIntents:
    """The acker's and the owner's side of stops.

    `cancel(task_id)` stops a task of this worker: cancelled, finished, or None when not ours.
    `keep(task_id)` puts a stop into the database.
    """

    def __init__(self, redis: RedisClient, keys: Keys, keep: KeepStop) -> None:
        self._redis = redis
        self._keep = keep
        self._key = keys.task_stops
        self._channel = keys.task_commands
        self._pending: dict[str, tuple[float, asyncio.Event]] = {}
        self._confirmed: dict[str, str] = {}
        self._confirming: dict[str, str] = {}
        self._settled: set[str] = set()
        self._seen: dict[str, tuple[Any, float]] = {}  # fields, and since when they stand there
        self._answers = asyncio.Event()
        self._look = asyncio.Event()
        self._added = asyncio.Event()
        self.cancel: Callable[[str], str | None] = lambda _: None

    # the acker

    async def request(self, task_id: str) -> str:
        """Keep the stop until its owner confirms; return the state known by now.

        Raises DatabaseUnavailable when neither the owner nor the database took it: then the
        stop may still happen, but nothing is promised.
        """
        _, confirmed = self._pending.setdefault(task_id, (time.monotonic(), asyncio.Event()))
        self._added.set()
        with contextlib.suppress(RedisUnavailable, TimeoutError):  # the loop asks again
            async with asyncio.timeout(WRITE_WITHIN_S):
                await self._ask([task_id])
            async with asyncio.timeout(CONFIRMED_WITHIN_S):
                await confirmed.wait()
        if task_id not in self._confirmed:
            await self._keep(task_id)
        return self._confirmed.get(task_id, REQUESTED)

    @property
    def pending(self) -> int:
        """Return how many stops wait for their owners' confirmation."""
        return len(self._pending)

    async def pursue(self, loop: Loop) -> None:
        """Ask again for every stop that was not confirmed. Runs for ever."""
        while True:
            if not self._pending:
                loop.succeeded()
                await wait_until(self._added, RECONCILE_S)
            await asyncio.sleep(ASK_AGAIN_S)
            with contextlib.suppress(RedisUnavailable):
                await self.ask_again()
                loop.succeeded()

    async def ask_again(self) -> None:
        """Look for confirmations; write and publish again what is without."""
        self._expire()
        if not (ids := list(self._pending)):
            return
        values = await self._redis.run(lambda r: r.hmget(self._key, ids), idempotent=True)
        states = {i: parse(value)[0] for i, value in zip(ids, values, strict=True)}
        for task_id, state in states.items():
            if state in (CANCELLED, FINISHED):
                self._settle(task_id, state)
        lost = [i for i in ids if states[i] == "" and i in self._pending]
        await self._ask(lost)  # owners find the others by themselves

    async def _ask(self, ids: list[str]) -> None:
        """Write intents, never over a confirmation, and publish them: in one round trip.

        On one server the order holds; in a cluster, where the two may be on different nodes, a
        message that overtakes its intent does no harm.
        """
        value = _value(REQUESTED)
        parent = spans.traceparent()
        carried = {"traceparent": parent} if parent else {}
        intents = [("HSETNX", self._key, i, value) for i in ids]
        await self._redis.pipeline([*intents, *self._messages([("stop", i, carried) for i in ids])])
        self._remove(i for i in ids if i not in self._pending)  # confirmed while it was written

    def _messages(self, messages: list[tuple[str, str, dict[str, str]]]) -> list[Command]:
        bodies = [{"action": action, "task_id": i, **more} for action, i, more in messages]
        return [("PUBLISH", self._channel, orjson.dumps(body)) for body in bodies]

    def _settle(self, task_id: str, state: str) -> None:
        entry = self._pending.pop(task_id, None)
        if entry is not None:
            self._confirmed[task_id] = state
            entry[1].set()
            asyncio.get_running_loop().call_later(1.0, self._confirmed.pop, task_id, None)
        self._remove([task_id])

    def _remove(self, ids: Iterable[str]) -> None:
        """Have intents removed soon; a Redis that cannot be reached gets them later."""
        self._settled.update(ids)
        if self._settled:
            self._answers.set()

    def _expire(self) -> None:
        now = time.monotonic()
        for task_id, (since, _) in list(self._pending.items()):
            if now - since > INTENT_LIFE_S:
                log.warning("no owner confirmed the stop of task %s; given up", task_id)
                del self._pending[task_id]

    # the owner

    def on_message(self, message: dict[str, Any]) -> None:
        """Take a message from the channel: a stop to execute, or a confirmation.

        Never waits: messages behind this one must not wait for Redis.
        """
        task_id = str(message.get("task_id", ""))
        if message.get("action") == "stop":
            with spans.continued("task stop", str(message.get("traceparent", "")), RECEIVED):
                self._execute([task_id])
        elif message.get("action") == "stopped" and task_id in self._pending:
            self._settle(task_id, str(message.get("state", CANCELLED)))

    def _execute(self, ids: list[str]) -> None:
        """Stop those that are ours; their confirmations are written together, soon."""
        for task_id in ids:
            if (state := self.cancel(task_id)) is not None:
                self._confirming[task_id] = state
                self._answers.set()

    async def answer_forever(self, loop: Loop) -> None:
        """Write confirmations, and remove the intents that are settled. Runs for ever."""
        while True:
            await wait_until(self._answers, RECONCILE_S)
            with contextlib.suppress(RedisUnavailable):  # unconfirmed intents come again
                await self._answer()
                loop.succeeded()

    async def _answer(self) -> None:
        states, self._confirming = self._confirming, {}
        settled = list(self._settled)
        fields = [("EVAL", CONFIRM, 1, self._key, i, _value(state)) for i, state in states.items()]
        told = self._messages([("stopped", i, {"state": state}) for i, state in states.items()])
        gone = [("HDEL", self._key, i) for i in settled]
        await self._redis.pipeline([*fields, *told, *gone])
        self._settled.difference_update(settled)

    def look_now(self) -> None:
        """Reconcile at once: messages may have been missed."""
        self._look.set()

    async def reconcile_forever(self, loop: Loop) -> None:
        """Read all intents twice a second, and after each subscription."""
        while True:
            with contextlib.suppress(RedisUnavailable):
                await self.reconcile()
                loop.succeeded()
            await wait_until(self._look, RECONCILE_S)

    async def reconcile(self) -> None:
        """Execute the intents for our tasks; remove those that nobody answers for."""
        fields = await self._redis.run(lambda r: r.hgetall(self._key), idempotent=True)
        intents = {_text(name): value for name, value in fields.items()}
        self._execute([i for i, value in intents.items() if parse(value)[0] == REQUESTED])
        if expired := self._unanswered(intents):
            await self._redis.pipeline([("HDEL", self._key, i) for i in expired])

    def _unanswered(self, intents: dict[str, Any]) -> list[str]:
        """Return what has stood there for too long, as we saw it: workers' clocks may differ."""
        now, known = time.monotonic(), self._seen
        self._seen = {
            task_id: known[task_id] if known.get(task_id, ("",))[0] == value else (value, now)
            for task_id, value in intents.items()
        }
        return [i for i, (_, since) in self._seen.items() if now - since > INTENT_LIFE_S]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _value(state: str) -> str:
    return f"{state}|{time.time():.3f}"


def parse(value: Any) -> tuple[str, float]:
    """Return state and time of a field; ("", 0) when there is none."""
    if not value:
        return "", 0.0
    state, _, at = _text(value).partition("|")
    try:
        return state, float(at)
    except ValueError:
        return state, 0.0
