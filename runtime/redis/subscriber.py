"""A pub/sub subscription that survives whatever happens to Redis."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.redis.errors import RedisUnavailable, level_of
from runtime.redis.topology import Topology
from runtime.redis.wire import Wire

log = logging.getLogger(__name__)

QUIET_S = 0.5  # silence after which the connection is checked
ANSWER_S = 0.6  # within which the check has to be answered
BACKOFF_S = (0.05, 0.4)  # first, longest

OnMessage = Callable[[bytes], Awaitable[None] | None]
OnSubscribed = Callable[[], Awaitable[None] | None]


class Subscriber:
    """Listens to one channel for ever; pub/sub loses messages, so the owner has to reconcile.

    `on_subscribed` is called after every (re)subscription, `on_message` with each payload. Their
    exceptions are logged and never end the subscription.
    """

    def __init__(
        self,
        topology: Topology,
        channel: str,
        on_message: OnMessage,
        on_subscribed: OnSubscribed | None = None,
    ) -> None:
        self._topology = topology
        self.channel = channel
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._forget: Callable[[], None] = lambda: None
        self.subscriptions = 0
        self.last_success = 0.0  # time.monotonic() of the last sign of life

    @property
    def subscribed(self) -> bool:
        """Whether messages arrive now, as far as known."""
        return self._wire is not None and self._wire.is_open

    def start(self) -> None:
        """Begin to listen in the background."""
        self._forget = self._topology.on_change(self._moved)
        self._task = asyncio.create_task(self.run(), name=f"subscriber {self.channel}")

    async def stop(self) -> None:
        """End and close the connection."""
        self._forget()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _moved(self) -> None:
        """Leave a primary that is one no more: it may hang, and then it never says so."""
        if self._wire and self._wire.address != self._topology.current(self.channel):
            self._wire.drop()

    async def run(self) -> None:
        """Subscribe, listen, and again after every loss."""
        first, longest = self._backoff()
        pause = first
        told = ""
        while True:
            before = self.subscriptions
            try:
                await self._listen()
            except RedisUnavailable as error:
                if error.reason != told:  # not once per attempt
                    log.log(level_of(error), "%s: %s", self.channel, error.reason)
                told = error.reason
            except Exception:  # a strange reply must not end the subscription
                log.exception("%s: listening failed", self.channel)
            if self.subscriptions > before:
                pause = first
            self._topology.refresh()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, longest)

    def _backoff(self) -> tuple[float, float]:
        """Return the first and the longest pause in seconds; jitter keeps workers apart."""
        first = self._topology.dial.reconnect_delay
        return BACKOFF_S if first is None else (max(first, BACKOFF_S[0]), max(first, BACKOFF_S[1]))

    async def _listen(self) -> None:
        wire = self._wire = await self._topology.open(self.channel, "subscriber")
        try:
            await self._subscribe(wire)
            await self._guarded(self._on_subscribed)
            while True:
                await self._next(wire)
        finally:
            self._wire = None
            wire.drop()

    async def _subscribe(self, wire: Wire) -> None:
        await wire.send("SUBSCRIBE", self.channel)
        if await wire.read(ANSWER_S) is None:
            raise RedisUnavailable("no answer to SUBSCRIBE")
        self._alive()
        self.subscriptions += 1

    async def _next(self, wire: Wire) -> None:
        """Handle one reply; after silence make sure that the other side still answers."""
        reply = await wire.read(QUIET_S)
        if reply is None:
            await wire.send("PING")
            reply = await wire.read(ANSWER_S)
            if reply is None:
                raise RedisUnavailable(f"silent for {QUIET_S + ANSWER_S:g} s")
        self._alive()
        if reply[0] == b"message":
            await self._guarded(self._on_message, reply[2])

    def _alive(self) -> None:
        self.last_success = time.monotonic()

    async def _guarded(self, callback: Callable[..., Any] | None, *arguments: Any) -> None:
        if callback is None:
            return
        try:
            result = callback(*arguments)
            if inspect.isawaitable(result):
                await result
        except Exception:  # one bad message must not deafen the worker
            log.exception("%s: handler failed", self.channel)
