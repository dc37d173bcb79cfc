"""A reliable cross-worker log over one Redis Stream.

Every message of a live worker reaches every other live worker exactly once and in its
publisher's order, although Redis fails: a publisher numbers its messages and keeps them; one
script appends only what follows the last number that the server has, so a retry or a late packet
changes nothing, and a server that lost data gets it again; a reader drops what it knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from runtime.redis.errors import RedisUnavailable, level_of
from runtime.redis.inbox import Gap, Inbox
from runtime.redis.keys import Keys
from runtime.redis.outbox import Batch, Outbox
from runtime.redis.topology import Topology
from runtime.redis.wire import Wire

log = logging.getLogger(__name__)

# KEYS: stream, last number of this origin. ARGV: origin, first number, most entries, gap allowed,
# begin anew, then room and payload of each message. Returns the last number that the server has;
# -1 when it knows nothing of this origin.
APPEND = """
local last = tonumber(redis.call('GET', KEYS[2]) or '-1')
local first = tonumber(ARGV[2])
if #ARGV == 5 then
  if last >= 0 then redis.call('EXPIRE', KEYS[2], 300) end
  return last
end
if last < 0 and ARGV[5] == '0' then return -1 end
local gap = last >= 0 and first > last + 1
if gap and ARGV[4] == '0' then return last end
local seq = first
for i = 6, #ARGV, 2 do
  if seq > last then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*',
      'o', ARGV[1], 's', seq, 'r', ARGV[i], 'd', ARGV[i + 1], 'g', gap and '1' or '0')
    gap = false
    last = seq
  end
  seq = seq + 1
end
redis.call('SET', KEYS[2], last, 'EX', 300)
return last
"""
APPEND_SHA = hashlib.sha1(APPEND.encode(), usedforsecurity=False).hexdigest()
IDLE_CHECK_S = 1.0
CALL_S = 1.0
BLOCK_MS = 400
READ_S = 1.0  # BLOCK plus a round trip: a server silent for longer hangs
COUNT = 2000  # large, or catching up on a busy machine takes a round trip per handful
CHUNK = 100  # entries handled before others may run
REWIND_MS = 5_000  # clocks of two servers may differ by this
LOOK_BACK_MS = 60_000
RETRY_S = 0.1
BUSY_PER_S = 1000  # from here on a few ms of delay buy much larger reads and writes
LINGER_S = 0.003

Deliver = Callable[[str, bytes], None]
Wants = Callable[[str], bool]


class EventLog:
    """One worker's end of the log. `publish` never waits; `deliver` is called in order.

    `wants(room)` tells whether anybody here is in the room ('' is for everybody); other messages
    are dropped unread. `on_gap(first, last)` tells that messages were lost for good.
    """

    def __init__(
        self,
        topology: Topology,
        keys: Keys,
        instance: str,
        deliver: Deliver,
        wants: Wants = lambda room: True,  # noqa: ARG005 - takes everything
        on_gap: Callable[[Gap], None] = lambda gap: None,  # noqa: ARG005 - nobody cares
        length: int = 50_000,
    ) -> None:
        self.origin = f"{instance}:{uuid.uuid4().hex[:12]}"
        self.outbox = Outbox()
        self._writer = Writer(topology, keys, self.origin, self.outbox, length)
        self._reader = Reader(topology, keys, self.origin, deliver, wants, on_gap)
        self._tasks: list[asyncio.Task[None]] = []

    def publish(self, room: str, payload: bytes) -> None:
        """Send to every other worker, as soon as Redis allows; returns at once."""
        self.outbox.put(room, payload)
        self._writer.wake.set()

    def start(self) -> None:
        """Begin to read and write in the background."""
        self._reader.started = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._writer.run(), name="event log writer"),
            asyncio.create_task(self._reader.run(), name="event log reader"),
        ]

    async def stop(self, flush: float = 1.0) -> None:
        """End; waits up to `flush` seconds until everything published is in Redis."""
        deadline = time.monotonic() + flush
        while self.outbox.unsent and self._tasks and time.monotonic() < deadline:
            self._writer.wake.set()
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def caught_up(self) -> bool:
        """Whether this worker hears the others and is heard, as of the last two seconds."""
        now = time.monotonic()
        recent = now - min(self._reader.last_success, self._writer.last_success) < 2.0
        return recent and self.outbox.unsent < 1000

    def status(self) -> dict[str, Any]:
        """Return what /ready and metrics tell about the log."""
        now = time.monotonic()

        def age(at: float) -> float | None:
            return round(now - at, 3) if at else None

        return {
            "caught_up": self.caught_up,
            "read_age_s": age(self._reader.last_success),
            "write_age_s": age(self._writer.last_success),
            "unsent": self.outbox.unsent,
            "dropped": self.outbox.dropped,
            "duplicates": self._reader.inbox.duplicates,
            "gaps": self._reader.gaps,
            "reconnects": self._reader.connects + self._writer.connects - 2,
            "resent": self.outbox.resent,
            "lag_s": round(self._reader.lag_s, 3),
            "connections": {loop.purpose: loop.status() for loop in (self._writer, self._reader)},
        }


class _Loop:
    """Keeps one connection to the primary of the stream, and leaves it when the primary moves."""

    purpose = ""

    def __init__(self, topology: Topology, keys: Keys, origin: str) -> None:
        self._topology = topology
        self._stream = keys.events
        self._origin_key = keys.events_origin(origin)
        self._origin = origin.encode()
        self._wire: Wire | None = None
        self.connects = 0
        self.last_success = 0.0

    async def run(self) -> None:
        """Serve for ever; every failure leads to a new connection."""
        forget = self._topology.on_change(self._moved)
        told = ""
        try:
            while True:
                try:
                    await self._connection()
                except RedisUnavailable as error:
                    if error.reason != told:  # not once per attempt
                        log.log(level_of(error), "%s: %s", self.purpose, error.reason)
                    told = error.reason
                except Exception:  # whatever it is, the worker must not stay deaf
                    log.exception("%s failed", self.purpose)
                self._topology.refresh()
                await asyncio.sleep(self._topology.dial.pause(RETRY_S))
        finally:
            forget()

    async def _connection(self) -> None:
        wire = self._wire = await self._topology.open(self._stream, self.purpose)
        self.connects += 1
        try:
            await self._serve(wire)
        finally:
            self._wire = None
            wire.drop()

    async def _serve(self, wire: Wire) -> None:
        raise NotImplementedError

    def _moved(self) -> None:
        if self._wire and self._wire.address != self._topology.current(self._stream):
            self._wire.drop()

    def _alive(self) -> None:
        self.last_success = time.monotonic()

    def status(self) -> dict[str, Any]:
        """Return whether it is connected, the age of its last success, and its reconnects."""
        age = round(time.monotonic() - self.last_success, 3) if self.last_success else None
        is_open = self._wire is not None and self._wire.is_open
        return {"open": is_open, "age_s": age, "reconnects": max(0, self.connects - 1)}


class Rate:
    """Messages a second, smoothed over a fifth of a second."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._at = time.monotonic()

    def add(self, count: int) -> float:
        """Count `count` messages now and return the rate."""
        now = time.monotonic()
        elapsed = now - self._at
        self._at = now
        keep = max(0.0, 1.0 - elapsed / 0.2)
        self._per_s = self._per_s * keep + count / 0.2 * (1.0 if keep else 0.2 / elapsed)
        return self._per_s


class Writer(_Loop):
    """Drains the outbox, and makes good what the server turns out to have lost."""

    purpose = "events-writer"

    def __init__(
        self, topology: Topology, keys: Keys, origin: str, outbox: Outbox, length: int
    ) -> None:
        super().__init__(topology, keys, origin)
        self._outbox = outbox
        self._length = length
        self._fresh = True  # the server may know nothing of us
        self._rate = Rate()
        self.wake = asyncio.Event()

    async def _serve(self, wire: Wire) -> None:
        self._reconcile(await self._append(wire, None))
        while True:
            self.wake.clear()
            if batch := self._outbox.batch():
                await self._send(wire, batch)
            else:
                await self._idle(wire)

    async def _send(self, wire: Wire, batch: Batch) -> None:
        last = await self._append(wire, batch)
        if last < batch.first + len(batch.messages) - 1:
            self._reconcile(last)  # refused: the server lost something
            return
        self._fresh = False
        self._outbox.acknowledge(last, time.monotonic())
        if self._rate.add(len(batch.messages)) > BUSY_PER_S:
            await asyncio.sleep(LINGER_S)

    async def _idle(self, wire: Wire) -> None:
        """Wait for messages; when there are none, check that the server kept the last ones."""
        try:
            async with asyncio.timeout(IDLE_CHECK_S * random.uniform(0.4, 0.6)):
                await self.wake.wait()
        except TimeoutError:
            self._outbox.forget(time.monotonic())
            self._reconcile(await self._append(wire, None))

    def _reconcile(self, last: int) -> None:
        """Rewind to what the server has."""
        now = time.monotonic()
        if last < 0:
            self._fresh = True
            if self._outbox.last:
                self._outbox.rewind(None, now)
            return
        self._fresh = False
        if last < self._outbox.sure:
            self._outbox.rewind(last, now)
        else:  # also what was appended although its answer was lost
            self._outbox.acknowledge(last, now)

    async def _append(self, wire: Wire, batch: Batch | None) -> int:
        """Run the script; without a batch only ask for the last number."""
        gap, first = (batch.gap, batch.first) if batch else (False, 0)
        words: list[str | bytes | int] = [
            *(2, self._stream, self._origin_key),
            *(self._origin, first, self._length, int(gap), int(self._fresh)),
        ]
        for message in batch.messages if batch else ():
            words += (message.room, message.payload)
        try:
            reply = await wire.call("EVALSHA", APPEND_SHA, *words, within=CALL_S)
        except NoScriptError:  # a server that never saw it
            reply = await wire.call("EVAL", APPEND, *words, within=CALL_S)
        self._alive()
        return int(reply)


class Reader(_Loop):
    """Follows the stream from where it was; dedupes, orders, delivers."""

    purpose = "events-reader"

    def __init__(
        self,
        topology: Topology,
        keys: Keys,
        origin: str,
        deliver: Deliver,
        wants: Wants,
        on_gap: Callable[[Gap], None],
    ) -> None:
        super().__init__(topology, keys, origin)
        self._deliver = deliver
        self._wants = wants
        self._on_gap = on_gap
        self._run_id = b""
        self._cursor = ""
        self._floor = 0  # ms; what is older was published before this worker began
        self._newest = (0, 0)  # the newest id read since the stream last lost its end
        self._rate = Rate()
        self.inbox: Inbox[tuple[bytes, bytes]] = Inbox()
        self.started = 0.0
        self.gaps = 0
        self.lag_s = 0.0  # how old the newest entry was when it was read, on the server's clock
        self._server_ahead_ms = 0.0

    async def _serve(self, wire: Wire) -> None:
        await self._place(wire)
        self._alive()
        while True:
            count = await self._read(wire)
            self._alive()
            if count == 0:
                await self._check_end(wire)
            self._give(self.inbox.expire(time.monotonic()))
            # lets others run between reads; under load a pause makes the reads larger
            busy = self._rate.add(count) > BUSY_PER_S and count < COUNT
            await asyncio.sleep(LINGER_S if busy else 0)

    async def _place(self, wire: Wire) -> None:
        """Choose where to read on: a new server gets a look back, for its ids may be older."""
        run_id = await self._server(wire)
        if not self._cursor:
            seconds, micros = await wire.call("TIME")
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            since_start = (time.monotonic() - self.started) * 1000
            self._server_ahead_ms = now_ms - time.time() * 1000
            self._floor = int(now_ms - since_start)
            self._cursor = f"{self._floor}-0"
        elif run_id != self._run_id:
            self._back(REWIND_MS)
        self._run_id = run_id

    async def _server(self, wire: Wire) -> bytes:
        """Return the server's run id; its address where a service has no INFO."""
        try:
            info = bytes(await wire.call("INFO", "server"))
        except ResponseError:
            return f"{wire.address}".encode()
        return next((x for x in info.split(b"\r\n") if x.startswith(b"run_id:")), b"")

    def _back(self, milliseconds: int) -> None:
        wanted = _id(self._cursor)[0] - milliseconds
        self._cursor = f"{max(0, wanted, self._floor)}-0"

    async def _read(self, wire: Wire) -> int:
        """Read and deliver one chunk; returns how many entries it had."""
        reply = await wire.call(
            *("XREAD", "BLOCK", BLOCK_MS, "COUNT", COUNT, "STREAMS", self._stream, self._cursor),
            within=READ_S,
        )
        if not reply:
            return 0
        entries = reply[0][1]
        for place, (_, fields) in enumerate(entries, 1):
            self._take(fields)
            if place % CHUNK == 0:
                await asyncio.sleep(0)
        self._cursor = entries[-1][0].decode()
        self._newest = _id(self._cursor)
        now_ms = time.time() * 1000 + self._server_ahead_ms
        self.lag_s = max(0.0, (now_ms - self._newest[0]) / 1000)
        if self.inbox.new_hole(time.monotonic()):
            self._back(LOOK_BACK_MS)
        return len(entries)

    def _take(self, fields: list[bytes] | None) -> None:
        """Handle one entry: o origin, s number, r room, d payload, g gap."""
        if not fields or len(fields) < 10 or fields[1] == self._origin or not fields[3].isdigit():
            return
        item = (fields[5], fields[7])
        now = time.monotonic()
        self._give(self.inbox.accept(fields[1], int(fields[3]), item, now, fields[9] == b"1"))

    def _give(self, items: Iterator[tuple[bytes, bytes] | Gap]) -> None:
        for item in items:
            if isinstance(item, Gap):
                self.gaps += 1
                self._guarded(self._on_gap, item)
            elif self._wants(room := item[0].decode()):
                self._guarded(self._deliver, room, item[1])

    def _guarded(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:  # one bad message must not deafen the worker
            log.exception("%s: handler failed", self.purpose)

    async def _check_end(self, wire: Wire) -> None:
        """Go back when the stream ends before what was read: it lost its end, or everything.

        New entries could get ids that are older than the cursor, and would never be seen.
        """
        if self._newest == (0, 0):
            return  # nothing was read that could be lost
        newest = await wire.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        end = _id(newest[0][0].decode()) if newest else (0, 0)
        if end < self._newest:
            back = max(0, end[0] - REWIND_MS)
            self._floor = min(self._floor, back)  # else the next look back would lead forward
            self._cursor, self._newest = f"{back}-0", (0, 0)


def _id(text: str) -> tuple[int, int]:
    first, _, second = text.partition("-")
    return int(first), int(second or 0)
