"""Who is in a chat: told to the room whenever it changes, on whichever worker it changed.

A change marks the room. Soon after, and once this worker's own part is in Redis, the room's index
is read and told. It is read again after a while, and told again if it differs: another worker may
have written between our reading and our telling. A room costs its members, not all
sessions, and a burst of joins costs one reading.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from runtime.realtime.session_pool import SessionPool
from runtime.redis.errors import RedisUnavailable
from runtime.supervision import Loop, Supervisor

SETTLE_S = 0.1
AGAIN_S = 1.0
RETRY_S = 0.5

Tell = Callable[[str, list[dict[str, str]]], None]


class Presence:
    """Tells rooms who is in them; `tell(chat, users)` sends it, users sorted by id."""

    def __init__(self, pool: SessionPool, tell: Tell) -> None:
        self._pool = pool
        self._tell = tell
        self._due: dict[str, float] = {}  # room → time.monotonic() of the next look
        self._told: dict[str, list[dict[str, str]]] = {}  # rooms that wait for a second look
        self._wake = asyncio.Event()

    def changed(self, room: str) -> None:
        """Note that somebody came or left; only chats tell who is there."""
        if not room.startswith("chat:"):
            return
        if room in self._told or room not in self._due:
            self._due[room] = time.monotonic() + SETTLE_S
        self._told.pop(room, None)
        self._wake.set()

    def start(self, supervisor: Supervisor) -> None:
        """Begin to tell in the background."""
        supervisor.run("chat presence", self._run)

    async def _run(self, loop: Loop) -> None:
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(max(0.0, min(self._due.values()) - time.monotonic()))
            now = time.monotonic()
            for room in [room for room, at in self._due.items() if at <= now]:
                del self._due[room]
                await self._look(room)
            loop.succeeded()

    async def _look(self, room: str) -> None:
        try:
            users = await self._pool.users_in(room)
        except RedisUnavailable:
            self._due.setdefault(room, time.monotonic() + RETRY_S)
            return
        shown = [{"id": user, "name": name} for user, name in sorted(users.items())]
        if shown == self._told.pop(room, None):  # the second look: nothing new
            return
        self._tell(room, shown)
        if room not in self._due:  # nothing changed while we read
            self._told[room] = shown
            self._due[room] = time.monotonic() + AGAIN_S

    def status(self) -> dict[str, Any]:
        """Return how many rooms wait to be told."""
        return {"rooms_due": len(self._due)}
