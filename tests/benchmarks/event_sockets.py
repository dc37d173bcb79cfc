"""Socket.IO clients as bare protocols: 5000 of them in this process, about 10 µs an event."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import orjson

from harness.load.frames import CLOSE, TEXT, FrameParser, encode
from tests.benchmarks.parts import BenchWorker

AT_ONCE = 50  # connections that are being opened
OPEN_WITHIN_S = 20.0
HEAD_END = b"\r\n\r\n"
EVENT = b'42["events"'
JOIN = 1  # the acknowledgement that is asked for


class EventSocket(asyncio.Protocol):
    """One connected and joined socket; `on_event` gets each `events` packet."""

    def __init__(self, host: str, token: str, on_event: Callable[[bytes], None]) -> None:
        self._host = host
        self._token = token
        self._on_event = on_event
        self._parser = FrameParser()
        self._head: bytes | None = b""
        loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
            *(f"Host: {self._host}", "Connection: Upgrade", "Upgrade: websocket"),
            *("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""),
        ]
        self._transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        """Take frames; before them the answer to the upgrade."""
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(HEAD_END)
            if not end:
                return
            if b" 101 " not in head:
                self.joined.set_exception(ConnectionError(head.decode()))
            self._head = None
        for opcode, payload in self._parser.feed(data):
            if opcode == TEXT:
                self._on_text(payload)

    def _on_text(self, text: bytes) -> None:
        """Answer as Engine.IO and Socket.IO demand: open, ping, connected, acknowledged."""
        auth = {"token": self._token}
        if text.startswith(EVENT):
            self._on_event(text)
        elif text == b"2":
            self._send(b"3")
        elif text.startswith(b"0"):
            self._send(b"40" + orjson.dumps(auth))
        elif text.startswith(b"40"):
            self._send(b"42%d" % JOIN + orjson.dumps(["user-join", {"auth": auth}]))
        elif text.startswith(b"43") and not self.joined.done():
            self.joined.set_result(None)

    def _send(self, text: bytes) -> None:
        self._transport.write(encode(TEXT, text))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail who waits for the join."""
        if not self.joined.done():
            self.joined.set_exception(ConnectionError(f"lost before it joined: {error}"))
        self.ended.set_result(None)

    async def close(self) -> None:
        """Close the connection."""
        self._transport.write(encode(CLOSE, b"\x03\xe8"))
        self._transport.close()
        await self.ended


class Counter:
    """Counts events and, of those that carry a time, keeps how long they took."""

    def __init__(self) -> None:
        self.count = 0
        self.latencies: list[float] = []
        self._wanted = 0
        self._reached: asyncio.Future[float] | None = None

    def add(self, packet: bytes) -> None:
        """Count an event without reading it."""
        self.count += 1
        if self._reached and self.count == self._wanted:
            self._reached.set_result(time.monotonic())

    def add_timed(self, packet: bytes) -> None:
        """Count an event and take the time since it was emitted."""
        sent = orjson.loads(packet[2:])[1]["data"]["data"]["t"]
        self.latencies.append(time.monotonic() - sent)
        self.add(packet)

    def expect(self, count: int) -> asyncio.Future[float]:
        """Return a future of when (monotonic s) so many more events will have come."""
        self._wanted = self.count + count
        self._reached = asyncio.get_running_loop().create_future()
        return self._reached


async def open_sockets(
    worker: BenchWorker, token: str, count: int, on_event: Callable[[bytes], None]
) -> list[EventSocket]:
    """Open and join sockets, AT_ONCE at a time."""
    free = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one() -> EventSocket:
        async with free, asyncio.timeout(OPEN_WITHIN_S):
            made = partial(EventSocket, worker.host, token, on_event)
            _, opened = await loop.create_connection(made, worker.host, worker.port)
            await opened.joined
            return opened

    return list(await asyncio.gather(*(one() for _ in range(count))))
