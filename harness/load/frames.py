"""WebSocket frames (RFC 6455), as far as a client of text messages needs them."""

from __future__ import annotations

import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_MASKED = 0x80
_NO_MASK = b"\0\0\0\0"  # clients must send a masking key; all zeros leaves the payload as it is
_SHORT, _LONG = 126, 127


class FrameError(Exception):
    """The peer sent what no server may send."""


def encode(opcode: int, payload: bytes) -> bytes:
    """Return one final client frame."""
    size = len(payload)
    if size < _SHORT:
        head = struct.pack("!BB", _FINAL | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | _SHORT, size)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | _LONG, size)
    return head + _NO_MASK + payload


class FrameParser:
    """Cuts the bytes of a server into messages, whatever pieces they arrive in."""

    def __init__(self) -> None:
        self._rest = b""
        self._opcode = CONTINUATION
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the (opcode, payload) of every message that is now complete."""
        if self._rest:
            data = self._rest + data
        messages: list[tuple[int, bytes]] = []
        position, size = 0, len(data)
        while size - position >= 2:
            start, end = _extent(data, position)
            if not start or end > size:
                break
            self._frame(data[position], data[start:end], messages)
            position = end
        self._rest = data[position:]
        return messages

    def _frame(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            messages.append((opcode, payload))
            return
        if first & _FINAL and not self._parts:
            messages.append((opcode, payload))
            return
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._parts.append(payload)
        if first & _FINAL:
            messages.append((self._opcode, b"".join(self._parts)))
            self._parts = []


def _extent(data: bytes, position: int) -> tuple[int, int]:
    """Return where the payload starts and ends; start 0 when the head is not complete."""
    length = data[position + 1]
    if length & _MASKED:
        raise FrameError("the server masked a frame, which only clients do")
    if length < _SHORT:
        return position + 2, position + 2 + length
    width, code = (2, "!H") if length == _SHORT else (8, "!Q")
    start = position + 2 + width
    if start > len(data):
        return 0, 0
    return start, start + int(struct.unpack_from(code, data, position + 2)[0])
