"""A closed loop of keep-alive connections: about 15 µs of the generator's time a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from tests.benchmarks.parts import BenchWorker

HEAD_END = b"\r\n\r\n"


class Caller(asyncio.Protocol):
    """One connection: sends its request again as soon as the answer is complete."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._wanted = 0  # bytes of the whole answer, 0 until its head is here
        self.ended = asyncio.get_running_loop().create_future()
        self.answers = 0
        self.wrong = b""
        self.running = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the answer when it is whole, and ask again."""
        self._buffer += data
        if not self._wanted and HEAD_END in self._buffer:
            self._wanted = self._size()
        if not self._wanted or len(self._buffer) < self._wanted:
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.wrong = self._buffer
        self.answers += 1
        self._buffer, self._wanted = b"", 0
        if self.running:
            self._transport.write(self._request)

    def _size(self) -> int:
        head, _, _ = self._buffer.partition(HEAD_END)
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        return len(head) + len(HEAD_END) + int(fields[b"content-length"])

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end; one that we did not ask for is wrong."""
        if self.running:
            self.wrong = self.wrong or f"connection lost: {error}".encode()
        self.ended.set_result(None)

    async def close(self) -> None:
        """Close the connection."""
        self.running = False
        self._transport.close()
        await self.ended


def request_of(host: str, path: str, token: str, cookie: str) -> bytes:
    """Return a GET as the connection sends it."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}"]
    lines += [f"Cookie: {cookie}"] if cookie else []
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Measured:
    """What a closed loop gave: answers a second, and what one cost the worker's processor."""

    per_s: float
    cpu_us: float


async def closed_loop(worker: BenchWorker, requests: Sequence[bytes], seconds: float) -> Measured:
    """Measure over one connection per request, after a warm-up; fail on any answer but 200."""
    loop = asyncio.get_running_loop()
    made = [loop.create_connection(partial(Caller, r), worker.host, worker.port) for r in requests]
    callers = [protocol for _, protocol in await asyncio.gather(*made)]
    await asyncio.sleep(seconds / 4)
    before, cpu, began = sum(c.answers for c in callers), worker.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    answers, cpu = sum(c.answers for c in callers) - before, worker.cpu_s() - cpu
    elapsed = time.monotonic() - began
    await asyncio.gather(*(caller.close() for caller in callers))
    assert not any(caller.wrong for caller in callers), next(c.wrong for c in callers if c.wrong)
    return Measured(answers / elapsed, cpu / answers * 1e6)
