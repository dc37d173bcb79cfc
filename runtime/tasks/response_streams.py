"""Answers that are still being written, for readers that come late or come back.

The worker that runs a task keeps its text here. Ten times a second what is new goes to Redis, as
upstream lays it out, so that every worker can serve it; every two seconds to the database, which
serves it when Redis does not.

| key | type | content |
|---|---|---|
| `P:tasks:response_streams:{task id}` | string, expires | JSON lines: a snapshot, then deltas |

Every piece of text has a number, from 1. Events carry it, and a snapshot says the last number that
it contains: a client drops events up to there, and sees a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import orjson

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.storage.database import DatabaseUnavailable
from runtime.supervision import Loop, wait_until
from runtime.tasks.store import Partial, TaskStore

WRITE_S = 0.1
SAVE_S = 2.0
BATCH = 200
LARGEST = 4 << 20  # characters; a longer answer is only saved at its end
REWRITE_ABOVE = 2  # a log this many times as long as its snapshot becomes a snapshot again
IDLE_S = 1.0
DELTA = "response.output_text.delta"

# KEYS[1] log; ARGV: the length that it must have, what to append, milliseconds to live.
# A log that Redis lost, or that a late packet changed, has another length: then it is rewritten.
APPEND = """
if redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return -1 end
local length = redis.call('APPEND', KEYS[1], ARGV[2])
if tonumber(ARGV[3]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return length
"""


class ResponseStream:
    """The text of one running task: `sequence` pieces so far."""

    def __init__(self, task_id: str, chat_id: str, message_id: str) -> None:
        self.task_id, self.chat_id, self.message_id = task_id, chat_id, message_id
        self.pieces: list[str] = []
        self.size = 0
        self.saved = 0  # pieces that the database has
        self.written = 0  # pieces that the log in Redis has
        self.length = 0  # bytes of the log; 0: to be rewritten
        self.snapshot = 0  # bytes of the snapshot that it begins with

    def add(self, text: str) -> int:
        """Take a piece; return its number."""
        self.pieces.append(text)
        self.size += len(text)
        return self.sequence

    @property
    def sequence(self) -> int:
        """Return the number of the last piece."""
        return len(self.pieces)

    @property
    def partial(self) -> Partial:
        """Return the text so far."""
        return Partial(self.task_id, "".join(self.pieces), self.sequence)

    def command(self, key: str, ttl_ms: int) -> tuple[Any, ...]:
        """Return the command that brings the log up to date."""
        lines = b"".join(self._delta(n) for n in range(self.written, self.sequence))
        if self.length and self.length + len(lines) <= REWRITE_ABOVE * self.snapshot:
            return ("EVAL", APPEND, 1, key, self.length, lines, ttl_ms)
        snapshot = self._snapshot()
        self.snapshot = len(snapshot)
        return ("SET", key, snapshot, *(("PX", ttl_ms) if ttl_ms > 0 else ()))

    def _delta(self, number: int) -> bytes:
        line = {"type": DELTA, "delta": self.pieces[number], "sequence_number": number + 1}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _snapshot(self) -> bytes:
        head = {
            "chat_id": self.chat_id,
            "message_id": self.message_id,
            "output": output_of("".join(self.pieces)),
            "sequence_number": self.sequence,
        }
        return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)


def output_of(text: str) -> list[dict[str, Any]]:
    """Return a text as the output items of a response."""
    content = [{"type": "output_text", "text": text}]
    return [{"type": "message", "role": "assistant", "content": content}]


def parse_log(task_id: str, log: bytes) -> Partial | None:
    """Return the text of a log; None when it cannot be read.

    A line that does not follow the one before it ends the text: better short than with a hole.
    """
    try:
        lines = [orjson.loads(line) for line in log.splitlines()]
        text = lines[0]["output"][0]["content"][0]["text"]
        sequence = int(lines[0]["sequence_number"])
        pieces = [str(text)]
        for line in lines[1:]:
            if line["sequence_number"] != sequence + 1:
                break
            pieces.append(str(line["delta"]))
            sequence += 1
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return None
    return Partial(task_id, "".join(pieces), sequence)


class ResponseStreams:
    """The streams of this worker, and the way to those of the others (`redis` None: none)."""

    def __init__(self, store: TaskStore, redis: RedisClient | None, keys: Keys, ttl_s: int) -> None:
        self._store = store
        self._redis = redis
        self._keys = keys
        self._ttl_ms = ttl_s * 1000
        self._open: dict[str, ResponseStream] = {}
        self._gone: set[str] = set()
        self._wake = asyncio.Event()

    # the worker that runs the task

    def open(self, task_id: str, chat_id: str, message_id: str) -> ResponseStream:
        """Begin to keep the text of a task."""
        stream = self._open[task_id] = ResponseStream(task_id, chat_id, message_id)
        self._wake.set()
        return stream

    def close(self, task_id: str) -> None:
        """Forget a task, here and in Redis; its message is in the database."""
        if self._open.pop(task_id, None) is not None:
            self.forget([task_id])

    def forget(self, ids: Sequence[str]) -> None:
        """Have the logs of ended tasks removed from Redis."""
        if self._redis is not None:
            self._gone.update(ids)
            self._wake.set()

    async def keep(self, loop: Loop) -> None:
        """Write what is new, to Redis and now and then to the database. Runs for ever."""
        due = 0.0
        while True:
            if not self._open and not self._gone:
                loop.succeeded()
                await wait_until(self._wake, IDLE_S)
            with contextlib.suppress(RedisUnavailable):
                await self.write()
            with contextlib.suppress(DatabaseUnavailable):
                if time.monotonic() >= due:
                    due = time.monotonic() + SAVE_S
                    await self.save()
                loop.succeeded()
            await asyncio.sleep(WRITE_S)

    async def write(self) -> None:
        """Bring the logs in Redis up to date."""
        if self._redis is None or not self._redis.available:
            return
        if gone := list(self._gone)[:BATCH]:
            await self._redis.pipeline([("DEL", self._key(task_id)) for task_id in gone])
            self._gone.difference_update(gone)
        changed = [s for s in self._open.values() if s.written < s.sequence and s.size <= LARGEST]
        for start in range(0, len(changed), BATCH):
            await self._write(self._redis, changed[start : start + BATCH])

    async def _write(self, redis: RedisClient, streams: list[ResponseStream]) -> None:
        upto = [stream.sequence for stream in streams]
        commands = [s.command(self._key(s.task_id), self._ttl_ms) for s in streams]
        appended = [command[0] == "EVAL" for command in commands]
        for stream in streams:
            stream.length = 0  # unknown until Redis answers
        replies = await redis.pipeline(commands, idempotent=False)
        for stream, number, reply, was_append in zip(streams, upto, replies, appended, strict=True):
            stream.length = int(reply) if was_append else stream.snapshot
            stream.written = number if stream.length > 0 else 0
            stream.length = max(0, stream.length)

    async def save(self) -> None:
        """Keep what is new in the database."""
        changed = [s for s in self._open.values() if s.saved < s.sequence and s.size <= LARGEST]
        partials = [stream.partial for stream in changed]
        await self._store.save(partials)
        for stream, partial in zip(changed, partials, strict=True):
            stream.saved = partial.sequence

    # everybody

    async def read(self, ids: Sequence[str]) -> dict[str, Partial]:
        """Return the texts of running tasks as far as they are known here or in Redis."""
        found = {i: stream.partial for i in ids if (stream := self._open.get(i)) is not None}
        others = [i for i in ids if i not in found]
        if self._redis is not None and others:
            with contextlib.suppress(RedisUnavailable):  # the database has what is older
                logs = await self._redis.pipeline([("GET", self._key(i)) for i in others])
                parsed = [parse_log(i, _bytes(v)) for i, v in zip(others, logs, strict=True) if v]
                found.update({partial.task_id: partial for partial in parsed if partial})
        return found

    def _key(self, task_id: str) -> str:
        return self._keys.response_stream(task_id)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
