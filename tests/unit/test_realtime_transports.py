"""The quick wait of a transport does what Engine.IO's own does, in the same order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from engineio.async_socket import AsyncSocket
from engineio.exceptions import QueueEmpty

from runtime.realtime.transports import QuickSocket, Transports

KINDS = [AsyncSocket, QuickSocket]


def _socket(kind: type[AsyncSocket], wait_s: float = 5.0) -> Any:
    """Return a socket of a server that waits so long for packets."""
    server = SimpleNamespace(
        ping_interval=wait_s, ping_timeout=0.0, create_queue=asyncio.Queue, sockets={}
    )
    return kind(server, "sid")


@pytest.mark.parametrize("kind", KINDS)
async def test_all_that_is_queued_comes_at_once(kind: type[AsyncSocket]) -> None:
    """In order; later packets come with the next wait, and `join` sees them taken."""
    socket = _socket(kind)
    for packet in (1, 2, 3):
        socket.queue.put_nowait(packet)
    assert await socket.poll() == [1, 2, 3]
    waiting = asyncio.create_task(socket.poll())
    await asyncio.sleep(0)
    socket.queue.put_nowait(4)
    assert await waiting == [4]
    await asyncio.wait_for(socket.queue.join(), 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_queued_before_the_end_is_sent_first(kind: type[AsyncSocket]) -> None:
    """The end, None, is an empty list of its own."""
    socket = _socket(kind)
    for packet in (1, None):
        socket.queue.put_nowait(packet)
    assert await socket.poll() == [1]
    assert await socket.poll() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_silence_and_cancellation_end_the_writer(kind: type[AsyncSocket]) -> None:
    """Both are QueueEmpty."""
    with pytest.raises(QueueEmpty):
        await _socket(kind, wait_s=0.01).poll()
    waiting = asyncio.create_task(_socket(kind).poll())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(QueueEmpty):
        await waiting


async def test_a_socket_that_is_gone_is_not_quickened() -> None:
    """The others keep what they have."""
    socket = _socket(AsyncSocket)
    socket.queue.put_nowait(1)
    transports = Transports(SimpleNamespace(sockets={"sid": socket}))
    transports.quicken("gone")
    transports.quicken("sid")
    assert type(socket) is QuickSocket
    assert await socket.poll() == [1]
