"""Which node serves the writes of a key right now, and connections to it."""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable

from runtime.deadline import Deadline
from runtime.redis.errors import RedisUnavailable
from runtime.redis.wire import Address, Dial, Wire, open_wire

log = logging.getLogger(__name__)

Key = str | bytes
POLL_S = 0.2  # a moved primary is noticed within this plus a round trip
ASK_TIMEOUT_S = 0.4


class Topology(ABC):
    """A Redis deployment as one worker sees it. Share one object per deployment and process."""

    mode = ""

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self._listeners: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._poke = asyncio.Event()
        self._known = asyncio.Event()
        self._trouble: dict[Address, str] = {}  # why the watch fails, for messages

    @abstractmethod
    def current(self, key: Key) -> Address | None:
        """Return the primary for the key as last known; None before the first answer."""

    def primaries(self) -> list[Address]:
        """Return every node that takes writes, as far as known."""
        address = self.current("")
        return [address] if address else []

    def shard(self, key: Key) -> str:  # noqa: ARG002 - one shard outside Cluster
        """Return a name for the part of the deployment that fails together with the key."""
        return "primary"

    async def locate(self, key: Key) -> Address:
        """Return the primary for the key; raises RedisUnavailable when nobody tells in time."""
        self.start()
        if not self._known.is_set():
            try:
                async with Deadline(self.dial.timeout):
                    await self._known.wait()
            except TimeoutError:
                raise RedisUnavailable(self._unknown(), refused=True) from None
        address = self.current(key)
        if address is None:
            raise RedisUnavailable(self._unknown(), refused=True)
        return address

    async def open(self, key: Key, purpose: str, decode: bool = False) -> Wire:
        """Return a connection to the key's primary; given up at once when the primary moves.

        Raises RedisUnavailable.
        """
        address = await self.locate(key)
        opening = asyncio.ensure_future(self.dial_node(address, purpose, decode))
        forget = self.on_change(lambda: self._give_up(opening, key, address))
        try:
            return await opening
        except asyncio.CancelledError:
            moved = not opening.done() or opening.cancelled()  # perhaps there and back again
            task = asyncio.current_task()
            if moved and not (task and task.cancelling()):
                raise RedisUnavailable("the primary moved", refused=True) from None
            if not opening.cancel() and not opening.cancelled() and not opening.exception():
                opening.result().drop()  # opened in the very moment that we were cancelled
            raise
        except RedisUnavailable:
            self.refresh()
            raise
        finally:
            forget()

    def _give_up(self, opening: asyncio.Future[Wire], key: Key, address: Address) -> None:
        if self.current(key) != address:
            opening.cancel()

    async def dial_node(self, address: Address, purpose: str, decode: bool = False) -> Wire:
        """Open a connection to one node, whatever its role."""
        return await open_wire(address, self.dial, purpose, decode)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back (on the loop, must not block) when a primary moved; returns the undo."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def refresh(self) -> None:
        """Say that a node failed or redirected: look again now, not at the next poll."""
        self._poke.set()

    def start(self) -> None:
        """Start watching, once; `locate` does it too."""
        if not self._tasks:
            self._tasks = self._watchers()

    async def close(self) -> None:
        """Stop watching and close the connections of the watch."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watchers(self) -> list[asyncio.Task[None]]:
        return []

    def _unknown(self) -> str:
        return "the primary is not known"

    def _why(self) -> str:
        """Return what the watched nodes said last, for a message."""
        return f": {'; '.join(sorted(self._trouble.values()))}" if self._trouble else ""

    def _changed(self) -> None:
        for callback in list(self._listeners):
            callback()

    async def _pause(self, period: float = POLL_S) -> None:
        """Wait for the next poll, or for `refresh`."""
        try:
            async with asyncio.timeout(period * random.uniform(0.8, 1.2)):
                await self._poke.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0.02)  # a burst of failures is one reason to look
        self._poke.clear()


class Standalone(Topology):
    """One server."""

    mode = "standalone"

    def __init__(self, address: Address, dial: Dial) -> None:
        super().__init__(dial)
        self._address = address
        self._known.set()

    def current(self, key: Key) -> Address:  # noqa: ARG002 - one server
        """Return the server."""
        return self._address
