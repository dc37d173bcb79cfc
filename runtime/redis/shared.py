"""One connection per node for every call of a worker: commands are pipelined as they come.

A pool needs as many connections as calls wait at once, so its size follows Redis's latency; this
needs one, at any latency. Only for commands that do not block.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from runtime.deadline import Deadline
from runtime.redis.errors import RedisUnavailable, translate
from runtime.redis.topology import Key, Topology
from runtime.redis.wire import Address, Argument, Wire

IN_FLIGHT = 1024  # calls; more wait for their turn
IDLE_S = 30.0  # an unused connection is closed after this


class _Call:
    """One write of `count` commands and the replies that came so far."""

    __slots__ = ("count", "done", "replies")

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()


class SharedWire:
    """A connection that many calls use at once; replies are matched by their order."""

    def __init__(self, wire: Wire, within: float) -> None:
        self._wire = wire
        self._within = within
        self._calls: deque[_Call] = deque()
        self._reader = asyncio.create_task(self._read(), name=f"redis {wire.address}")
        self.address: Address = wire.address
        self.last_used = self.last_reply = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as known."""
        return self._wire.is_open

    @property
    def waiting(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    def drop(self) -> None:
        """Close at once; every waiting call fails."""
        self._wire.drop()
        self._reader.cancel()
        self._fail(RedisUnavailable("connection was dropped"))

    async def call_many(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Return one raw reply, or the ResponseError, per command.

        Raises RedisUnavailable; a call that gets no answer in time drops the connection. A
        cancelled call leaves the others alone, unless the server has been silent all along.
        """
        call = _Call(len(commands))
        sent = self.last_used = time.monotonic()
        self._calls.append(call)
        try:
            async with Deadline(self._within):
                await self._wire.write(commands)
                return await call.done
        except TimeoutError:
            self.drop()
            raise RedisUnavailable(f"no answer within {self._within:g} s") from None
        except asyncio.CancelledError:
            call.done.cancel()
            if self.silent_since(sent):
                self.drop()
            raise
        except RedisUnavailable:
            self.drop()
            raise

    async def fresh(self, unused: float | None) -> bool:
        """Tell whether it can be used; one unused for `unused` seconds has to answer first."""
        if not self.is_open:
            return False
        if unused is None or time.monotonic() - max(self.last_used, self.last_reply) < unused:
            return True
        try:
            await self.call_many([("PING",)])
        except RedisUnavailable:
            return False
        return True

    def silent_since(self, sent: float) -> bool:
        """Whether the server said nothing for a while after `sent`."""
        return self.last_reply < sent and time.monotonic() - sent > 0.1

    async def _read(self) -> None:
        try:
            while True:
                try:
                    reply = await self._wire.next_reply()
                except ResponseError as error:
                    reply = error
                self._take(reply)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever it is, replies can no longer be matched
            self._wire.drop()
            self._fail(translate(error) or RedisUnavailable(repr(error)))

    def _take(self, reply: Any) -> None:
        self.last_reply = time.monotonic()
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) == call.count:
            self._calls.popleft()
            if not call.done.done():
                call.done.set_result(call.replies)

    def _fail(self, error: RedisUnavailable) -> None:
        calls, self._calls = self._calls, deque()
        for call in calls:
            if not call.done.done():
                call.done.set_exception(RedisUnavailable(error.reason))
                call.done.exception()  # whoever waits gets it; nobody may wait any more


class SharedWires:
    """One SharedWire per node in use, opened when needed."""

    def __init__(self, topology: Topology, purpose: str, most: int) -> None:
        self._topology = topology
        self._purpose = purpose
        self._most = most
        self._turns = asyncio.Semaphore(IN_FLIGHT)
        self._wires: dict[Address, SharedWire] = {}
        self._opening: dict[Address, asyncio.Lock] = {}

    @property
    def open(self) -> int:
        """Connections now."""
        return sum(wire.is_open for wire in list(self._wires.values()))

    @property
    def waiting(self) -> int:
        """Calls without an answer."""
        return sum(wire.waiting for wire in list(self._wires.values()))

    async def exchange(
        self, key: Key, commands: Sequence[Sequence[Argument]], at: Address | None = None
    ) -> list[Any]:
        """Send commands to the key's primary, or to the node `at`; return the raw replies."""
        async with self._turns:
            wire = await self._wire(key, at)
            return await wire.call_many(commands)

    async def _wire(self, key: Key, at: Address | None) -> SharedWire:
        """Return the connection to a node; only who holds the node's lock opens it.

        The primary may move while we wait. Then the new one's lock counts: opened under the old
        one's, connections to it would be many, each of which drops the last, with all its calls.
        """
        while True:
            address = at or await self._topology.locate(key)
            async with self._opening.setdefault(address, asyncio.Lock()):
                wire = self._wires.get(address)
                if wire is not None and await wire.fresh(self._topology.dial.health_check):
                    return wire
                if at or self._topology.current(key) == address:
                    return await self._open(key, at)

    async def _open(self, key: Key, at: Address | None) -> SharedWire:
        self._make_room()
        if at is None:
            opened = await self._topology.open(key, self._purpose, decode=True)
        else:
            opened = await self._topology.dial_node(at, self._purpose, decode=True)
        wire = SharedWire(opened, self._topology.dial.timeout)
        self._forget(wire.address)
        self._wires[wire.address] = wire
        return wire

    def _forget(self, address: Address) -> None:
        if old := self._wires.pop(address, None):
            old.drop()

    def _make_room(self) -> None:
        """Close the longest unused connection when the bound is reached."""
        if len(self._wires) >= self._most:
            self._forget(min(self._wires.values(), key=lambda wire: wire.last_used).address)

    def moved(self) -> None:
        """Close what leads to no primary any more: a call on it cannot succeed, and may hang.

        A primary that only gave some slots away goes on serving the others.
        """
        for address in set(self._wires) - set(self._topology.primaries()):
            self._forget(address)

    def close(self) -> None:
        """Close everything."""
        for address in list(self._wires):
            self._forget(address)

    def trim(self, now: float) -> None:
        """Close what nobody used for IDLE_S, and what the other side closed."""
        for wire in list(self._wires.values()):
            if now - wire.last_used > IDLE_S or not wire.is_open:
                self._forget(wire.address)
