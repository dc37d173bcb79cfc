"""Who is connected where: records and indexes in Redis, written in the background.

| key | content |
|---|---|
| `P:session_pool` | hash: socket id → `{id, name, role, instance, last_seen_at, rooms}` |
| `{P:session_pool}:room:ROOM` | sorted set: sockets of a user, chat, channel or note |
| `{P:session_pool}:instance:ID` | sorted set: sockets of a worker |
| `{P:session_pool}:seen`, `:users`, `:instances` | sorted sets: when each was last said to live |

Nothing here is waited for by a socket. A worker writes what it has, again and again; what nobody
renews is removed by the leader (`session_reaper.py`), and everything expires if all workers die.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from runtime.realtime import session_scripts as scripts
from runtime.realtime.write_behind import RETRY_S, write_behind
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.redis.server_clock import ServerClock
from runtime.redis.wire import Argument
from runtime.supervision import Loop, Supervisor

log = logging.getLogger(__name__)

LEASE_S = 30
TIMEOUT_S = 120
CHUNK = 100  # records a round trip: encoding them must not stall the loop
MOST_MEMBERS = 5000

Command = tuple[Argument, ...]
Record = dict[str, Any]


@dataclass
class Socket:
    """One socket of this worker. `written` are the rooms whose indexes hold it."""

    user: str
    name: str
    role: str
    last_seen_at: int
    rooms: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def record(self, instance: str) -> Record:
        """Return what other workers may know; no address, no settings."""
        return {
            "id": self.user,
            "name": self.name,
            "role": self.role,
            "instance": instance,
            "last_seen_at": self.last_seen_at,
            "rooms": sorted(self.rooms),
        }


class PoolKeys:
    """Which keys a record lives under."""

    def __init__(self, keys: Keys) -> None:
        self.all = keys

    def of(self, user: str, instance: str, rooms: set[str] | list[str]) -> list[str]:
        """Return hash, seen, users, the user's room, then the other indexes."""
        keys = self.all
        return [
            *(keys.session_pool, keys.session_pool_seen, keys.session_pool_users),
            keys.session_pool_room(f"user:{user}"),
            keys.session_pool_instance(instance),
            *(keys.session_pool_room(room) for room in rooms),
        ]


class SessionPool:
    """The sockets of one worker, mirrored to Redis; without a client only in memory.

    `lease_s` is how long a worker counts as living after its last word, `timeout_s` a socket.
    `on_lost` gets the rooms of which others may have been told that our sockets are gone.
    """

    def __init__(
        self,
        client: RedisClient | None,
        keys: Keys,
        instance: str,
        *,
        lease_s: float = LEASE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.client = client
        self.keys = PoolKeys(keys)
        self.instance = instance
        self.lease_s, self.timeout_s = lease_s, timeout_s
        self._local: dict[str, Socket] = {}
        self._by_room: dict[str, set[str]] = {}  # also `user:ID`
        self._gone: dict[str, Socket] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._stopped = False
        self._forget: Callable[[], None] = lambda: None
        self.on_lost: Callable[[set[str]], None] = lambda _: None
        self.clock = ServerClock()

    def __len__(self) -> int:
        return len(self._local)

    def __contains__(self, sid: object) -> bool:
        return sid in self._local

    # --- this worker's sockets: never waits ------------------------------------------------

    def add(self, sid: str, user: str, name: str, role: str) -> None:
        """Note a socket of a user; one that joins again keeps its rooms."""
        rooms = self._local[sid].rooms if sid in self._local else set()
        written = self._local[sid].written if sid in self._local else set()
        self._local[sid] = Socket(user, name, role, int(time.time()), rooms, written)
        self._by_room.setdefault(f"user:{user}", set()).add(sid)
        self._mark(sid)

    def touch(self, sid: str) -> None:
        """Note a sign of life (heartbeat)."""
        if socket := self._local.get(sid):
            socket.last_seen_at = int(time.time())
            self._mark(sid)

    def enter(self, sid: str, room: str) -> None:
        """Note that a socket is in a room."""
        if (socket := self._local.get(sid)) and room not in socket.rooms:
            socket.rooms.add(room)
            self._by_room.setdefault(room, set()).add(sid)
            self._mark(sid)

    def leave(self, sid: str, room: str) -> None:
        """Note that a socket left a room."""
        if (socket := self._local.get(sid)) and room in socket.rooms:
            socket.rooms.discard(room)
            self._drop_from(room, sid)
            self._mark(sid)

    def remove(self, sid: str) -> set[str]:
        """Note that the socket is gone; return the rooms that it was in."""
        socket = self._local.pop(sid, None)
        if socket is None:
            return set()
        if self.client:
            self._gone[sid] = socket
        for room in (f"user:{socket.user}", *socket.rooms):
            self._drop_from(room, sid)
        self._mark(sid)
        return socket.rooms

    def _drop_from(self, room: str, sid: str) -> None:
        members = self._by_room.get(room, set())
        members.discard(sid)
        if not members:
            self._by_room.pop(room, None)

    def rooms_of(self, sid: str) -> set[str]:
        """Return the rooms of a socket here."""
        socket = self._local.get(sid)
        return set(socket.rooms) if socket else set()

    def local(self, room: str) -> dict[str, Record]:
        """Return the records of this worker's sockets in a room."""
        sids = self._by_room.get(room, ())
        return {sid: self._local[sid].record(self.instance) for sid in sids}

    def _mark(self, sid: str) -> None:
        if self.client:
            self._changed.add(sid)
            self._wake.set()

    def mark_all(self) -> None:
        """Write everything again: the server may have lost it."""
        self._changed.update(self._local)
        self._wake.set()

    # --- everybody's sockets: raises RedisUnavailable ---------------------------------------

    async def get(self, sid: str) -> Record | None:
        """Return the record of a socket on any worker."""
        if sid in self._local:
            return self._local[sid].record(self.instance)
        if self.client is None:
            return None
        found = await self._ask("HGET", self.keys.all.session_pool, sid)
        return orjson.loads(found) if found else None

    async def members(self, room: str) -> dict[str, Record]:
        """Return the sockets of a room on all workers; what this worker knows itself wins."""
        found = self.local(room)
        if self.client is None:
            return found
        names = (self.keys.all.session_pool_room(room), self.keys.all.session_pool)
        flat = await self._ask("EVAL", scripts.MEMBERS, 2, *names, self.timeout_s, MOST_MEMBERS)
        for sid, text in zip(flat[::2], flat[1::2], strict=True):
            record = orjson.loads(text)
            there = room in (f"user:{record['id']}", *record["rooms"])  # an index may lag
            if there and record["instance"] != self.instance:
                found[sid] = record
        return found

    async def users_in(self, room: str) -> dict[str, str]:
        """Return id → name of who is in a room, on any worker."""
        return {r["id"]: r["name"] for r in (await self.members(room)).values()}

    async def is_active(self, user: str) -> bool:
        """Tell whether a user has a socket on any worker."""
        return bool(await self.active_among([user]))

    async def active_among(self, users: list[str]) -> set[str]:
        """Return which of these users have a socket on any worker; one round trip."""
        here = {user for user in users if f"user:{user}" in self._by_room}
        others = [user for user in users if user not in here]
        if self.client is None or not others:
            return here
        rooms = [self.keys.all.session_pool_room(f"user:{user}") for user in others]
        counts = await self.client.pipeline([self._counting(room) for room in rooms])
        return here | {user for user, n in zip(others, counts, strict=True) if int(n)}

    async def user_count(self) -> int:
        """Return how many users have a socket on any worker."""
        if self.client is None:
            return sum(room.startswith("user:") for room in self._by_room)
        return await self._count(self.keys.all.session_pool_users)

    async def _count(self, key: str) -> int:
        return int(await self._ask(*self._counting(key)))

    def _counting(self, key: str) -> Command:
        return ("EVAL", scripts.COUNT, 1, key, self.timeout_s)

    async def _ask(self, *words: Any) -> Any:
        assert self.client
        return (await self.client.pipeline([words]))[0]

    # --- the mirror ------------------------------------------------------------------------

    def start(self, supervisor: Supervisor) -> None:
        """Begin to write in the background; does not wait for Redis."""
        if not self.client:
            return
        self._forget = self.client.topology.on_change(self.mark_all)
        supervisor.run("session pool", self._write_forever)
        supervisor.run("instance lease", self._renew_forever)

    async def stop(self) -> None:
        """Remove this worker's records, if Redis answers within a second."""
        if not self.client:
            return
        self._stopped = True
        self._forget()
        self._gone |= self._local
        self._local.clear()
        self._by_room.clear()
        self._changed.update(self._gone)
        try:
            await self._flush()
            keys = self.keys.all
            await self.client.pipeline(
                [
                    ("DEL", keys.instance(self.instance)),
                    ("ZREM", keys.session_pool_instances, self.instance),
                ]
            )
        except RedisUnavailable as error:
            log.info("session pool not cleaned: %s", error.reason)

    async def _write_forever(self, loop: Loop) -> None:
        await write_behind(loop, self._wake, self._flush)

    async def _flush(self) -> None:
        """Write what had changed when called, in chunks that keep the loop responsive."""
        assert self.client
        changed = list(self._changed)  # later changes have a write of their own, or none ever ended
        for start in range(0, len(changed), CHUNK):
            chunk = changed[start : start + CHUNK]
            self._changed.difference_update(chunk)
            try:
                await self.client.pipeline([c for sid in chunk for c in self._commands(sid)])
            except BaseException:
                self._changed.update(chunk)
                raise
            for sid in chunk:
                if sid not in self._changed:
                    self._gone.pop(sid, None)

    def _commands(self, sid: str) -> list[Command]:
        """Return what makes Redis agree; a socket that changed its user is first removed."""
        commands: list[Command] = []
        if socket := self._gone.get(sid):
            keys = self.keys.of(socket.user, self.instance, socket.rooms | socket.written)
            commands.append(("EVAL", scripts.DROP, len(keys), *keys, sid, socket.user))
        if socket := self._local.get(sid):
            commands += self._put(sid, socket)
        return commands

    def _put(self, sid: str, socket: Socket) -> list[Command]:
        left = socket.written - socket.rooms
        socket.written |= socket.rooms  # until an answer says otherwise, they may hold it
        keys = self.keys.of(socket.user, self.instance, socket.rooms)
        record = orjson.dumps(socket.record(self.instance))
        ttl = int(2 * self.timeout_s)
        put: Command = ("EVAL", scripts.PUT, len(keys), *keys, sid, record, socket.user, ttl)
        return [put, *(("ZREM", self.keys.all.session_pool_room(room), sid) for room in left)]

    async def _renew_forever(self, loop: Loop) -> None:
        """Renew the lease; renew the records before they look silent, and after every loss."""
        renewed = time.monotonic()
        while not self._stopped:
            try:
                wrong = await self._renew()
                loop.succeeded()
            except RedisUnavailable:
                renewed = 0.0  # whatever it was, it may have lost our records
                await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))
                continue
            if wrong or time.monotonic() - renewed > self.timeout_s / 4:
                renewed = time.monotonic()
                self.mark_all()
            await asyncio.sleep(self.lease_s / 6 * random.uniform(0.8, 1.2))

    async def _renew(self) -> bool:
        """Say that this worker lives; tell whether Redis lacks records, or dates them wrongly.

        A leader that took this worker for dead, because it stood still, has removed them.
        """
        assert self.client
        keys, ttl = self.keys.all, int(2 * self.timeout_s)
        instances, me = keys.session_pool_instances, self.instance
        commands: list[Command] = [
            ("SET", keys.instance(me), "1", "PX", int(self.lease_s * 1000)),
            ("EVAL", scripts.TOUCH, 1, instances, me, ttl),
            ("ZCARD", keys.session_pool_instance(me)),
            ("HLEN", keys.session_pool),
        ]
        asked, written = time.monotonic(), self._local.keys() - self._changed
        _, now, *sizes = await self.client.pipeline(commands)
        stepped = self.clock.stepped(int(now), asked)
        lost = min(map(int, sizes)) < len(written & self._local.keys())
        if lost:
            self.on_lost(set(self._by_room))
        return lost or stepped
