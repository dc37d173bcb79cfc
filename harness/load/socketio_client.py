"""A thin Socket.IO client on gevent: WebSocket transport only, about 15 µs an event.

Locust's own SocketIOUser costs eight times that, and the load shares its cores with the target.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import gevent
import orjson
from gevent.event import AsyncResult
from gevent.lock import RLock

from harness.load import frames

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
RECEIVE_BYTES = 65536
_SWITCHING_PROTOCOLS = b"101"


class UpgradeRefused(Exception):
    """The server answered the WebSocket handshake with another status than 101."""


class ConnectRejected(Exception):
    """The server answered Socket.IO's CONNECT with CONNECT_ERROR."""


class SocketLost(Exception):
    """The connection ended while an answer was awaited."""


class SocketClient:
    """One connected Socket.IO client. Callbacks run in its reader greenlet and must not block.

    `on_event(name, arguments)` is called for every event, `on_lost(reason)` once when the
    connection ends other than by `close()`.
    """

    def __init__(
        self,
        url: str,
        path: str,
        headers: dict[str, str],
        on_event: Callable[[str, list[Any]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._url = urlsplit(url)
        self._path = path
        self._headers = headers
        self._on_event = on_event
        self._on_lost = on_lost
        self._socket = socket.socket()
        self._parser = frames.FrameParser()
        self._sending = RLock()
        self._acks: dict[int, AsyncResult] = {}
        self._next_ack = 0
        self._opened: AsyncResult = AsyncResult()
        self._connected: AsyncResult = AsyncResult()
        self._closed = False
        self._silence_s = ANSWER_TIMEOUT_S
        self.sid = ""
        self.answer_headers: dict[str, str] = {}  # of the handshake

    def connect(self, auth: dict[str, Any]) -> str:
        """Connect and return the session id.

        Raises OSError, TimeoutError, UpgradeRefused, ConnectRejected or SocketLost.
        """
        try:
            self._socket.settimeout(CONNECT_TIMEOUT_S)
            self._socket.connect((self._url.hostname, self._url.port or 80))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rest = self._upgrade()
            gevent.spawn(self._read, rest)
            self._await(self._opened)
            self._send(b"40" + orjson.dumps(auth))
            self.sid = str(self._await(self._connected))
        except BaseException:
            self.close()
            raise
        return self.sid

    @property
    def closed(self) -> bool:
        """Tell whether the connection has ended, from either side."""
        return self._closed

    def call(self, event: str, data: Any) -> list[Any]:
        """Send an event and return the arguments of its acknowledgement."""
        self._next_ack += 1
        number = self._next_ack
        result = self._acks[number] = AsyncResult()
        try:
            self._send(b"42%d" % number + orjson.dumps([event, data]))
            answer: list[Any] = self._await(result)
        finally:
            self._acks.pop(number, None)
        return answer

    def emit(self, event: str, data: Any) -> None:
        """Send an event without awaiting anything; raises OSError when the socket is gone."""
        self._send(b"42" + orjson.dumps([event, data]))

    def close(self) -> None:
        """Close without reporting a loss."""
        if self._closed:
            return
        self._closed = True
        try:
            self._socket.sendall(frames.encode(frames.CLOSE, b"\x03\xe8"))
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # already gone
        self._socket.close()
        self._fail(SocketLost("closed here"))

    def _await(self, result: AsyncResult) -> Any:
        try:
            return result.get(timeout=ANSWER_TIMEOUT_S)
        except gevent.Timeout:
            raise TimeoutError(f"no answer in {ANSWER_TIMEOUT_S:g} s") from None

    def _upgrade(self) -> bytes:
        """Do the WebSocket handshake; return what came after it."""
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {self._path}/?EIO=4&transport=websocket HTTP/1.1",
            f"Host: {self._url.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := self._socket.recv(RECEIVE_BYTES)):
                raise SocketLost("closed during the handshake")
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        if status != _SWITCHING_PROTOCOLS:
            raise UpgradeRefused(head.split(b"\r\n", 1)[0].decode("latin-1"))
        lines = head.decode("latin-1").split("\r\n")[1:]
        self.answer_headers = {n: v.strip() for n, _, v in (line.partition(":") for line in lines)}
        return rest

    def _send(self, packet: bytes) -> None:
        with self._sending:
            self._socket.sendall(frames.encode(frames.TEXT, packet))

    def _read(self, data: bytes) -> None:
        """Read until the connection ends; the reader greenlet's whole life."""
        reason = "closed by the server"
        try:
            while True:
                for opcode, payload in self._parser.feed(data):
                    self._message(opcode, payload)
                data = self._socket.recv(RECEIVE_BYTES)
                if not data:
                    break
        except (OSError, frames.FrameError, SocketLost) as error:
            reason = f"{type(error).__name__}: {error}"
        self._ended(reason)

    def _ended(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._socket.close()
        self._fail(SocketLost(reason))
        self._on_lost(reason)

    def _fail(self, error: Exception) -> None:
        for result in (self._opened, self._connected, *self._acks.values()):
            if not result.ready():
                result.set_exception(error)

    def _message(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.TEXT:
            self._engine_packet(payload)
        elif opcode == frames.PING:
            with self._sending:
                self._socket.sendall(frames.encode(frames.PONG, payload))
        elif opcode == frames.CLOSE:
            raise SocketLost(f"closed by the server {_close_code(payload)}".rstrip())

    def _engine_packet(self, packet: bytes) -> None:
        kind = packet[:1]
        if kind == b"4":
            self._socketio_packet(packet[1:2], packet[2:])
        elif kind == b"2":
            self._send(b"3" + packet[1:])
        elif kind == b"0":
            fields = orjson.loads(packet[1:])
            # Engine.IO: silence longer than a ping's interval and timeout means it is dead
            self._silence_s = (fields["pingInterval"] + fields["pingTimeout"]) / 1000
            self._socket.settimeout(self._silence_s)
            self._opened.set(fields["sid"])
        elif kind == b"1":
            raise SocketLost("Engine.IO close")

    def _socketio_packet(self, kind: bytes, body: bytes) -> None:
        if kind == b"2":
            name, *arguments = orjson.loads(body)
            self._on_event(name, arguments)
        elif kind == b"3":
            number, arguments = _split_ack(body)
            if result := self._acks.get(number):
                result.set(arguments)
        elif kind == b"0":
            self._connected.set(orjson.loads(body)["sid"])
        elif kind == b"4":
            self._connected.set_exception(ConnectRejected(body.decode(errors="replace")))
        elif kind == b"1":
            raise SocketLost("Socket.IO disconnect")


def _split_ack(body: bytes) -> tuple[int, list[Any]]:
    """Return number and arguments of an ACK packet's body, such as `12[{"id": 1}]`."""
    start = body.index(b"[")
    return int(body[:start]), orjson.loads(body[start:])


def _close_code(payload: bytes) -> str:
    return str(int.from_bytes(payload[:2], "big")) if len(payload) >= 2 else ""
