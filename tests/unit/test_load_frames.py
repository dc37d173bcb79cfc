"""WebSocket frames: whatever pieces they arrive in, the messages are the same."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load import frames
from harness.load.frames import FrameError, FrameParser


def server_frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """Return a frame as servers send it: unmasked."""
    size = len(payload)
    first = opcode | (0x80 if final else 0)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


@given(
    payloads=st.lists(st.binary(max_size=300) | st.just(b"x" * 70_000), max_size=6),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=40),
)
def test_messages_do_not_depend_on_how_the_bytes_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    """Every cutting of the same bytes gives the same messages in the same order."""
    data = b"".join(server_frame(frames.TEXT, payload) for payload in payloads)
    parser, found, position, turn = FrameParser(), [], 0, 0
    while position < len(data):
        size = cuts[turn % len(cuts)] * (1 if turn < 50 else 1000)
        found += parser.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert found == [(frames.TEXT, payload) for payload in payloads]


def test_fragments_become_one_message_with_a_ping_in_between() -> None:
    """Control frames may stand between the fragments of a message."""
    data = (
        server_frame(frames.TEXT, b"ab", final=False)
        + server_frame(frames.PING, b"!")
        + server_frame(frames.CONTINUATION, b"cd", final=False)
        + server_frame(frames.CONTINUATION, b"ef")
    )
    assert FrameParser().feed(data) == [(frames.PING, b"!"), (frames.TEXT, b"abcdef")]


@pytest.mark.parametrize(("size", "head"), [(5, 2), (126, 4), (65535, 4), (65536, 10)])
def test_client_frames_carry_a_mask_and_their_length(size: int, head: int) -> None:
    """A client frame has the mask bit and a key of zeros, so the payload stands as it is."""
    payload = b"p" * size
    frame = frames.encode(frames.TEXT, payload)
    assert frame[0] == 0x81
    assert frame[1] & 0x80
    assert frame[head:] == b"\0\0\0\0" + payload


def test_a_masked_server_frame_is_an_error() -> None:
    """Servers must not mask."""
    with pytest.raises(FrameError, match="masked"):
        FrameParser().feed(frames.encode(frames.TEXT, b"x"))
