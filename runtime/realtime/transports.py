"""Closing connections under Socket.IO, so that their clients come back one after the other."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from engineio.async_socket import AsyncSocket
from engineio.exceptions import QueueEmpty

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 4.0
CLOSE_SPREAD_S = 1.0


class QuickSocket(AsyncSocket):  # type: ignore[misc]  # shipped without types
    """Waits for packets without a task of its own for every wait.

    That is what `asyncio.wait_for` of Python 3.11 makes, and two turns of the loop; with
    thousands of sockets it is a quarter of what a broadcast costs.
    """

    async def poll(self) -> list[Any]:
        """Return the packets to send, none when the socket closes; raise QueueEmpty if idle."""
        queue = self.queue
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                packets = [await queue.get()]
        except (TimeoutError, asyncio.CancelledError):  # both end the writer
            raise QueueEmpty from None
        queue.task_done()
        while packets[-1] is not None and not queue.empty():
            packets.append(queue.get_nowait())
            queue.task_done()
        if packets[-1] is None:  # closing: what was before is sent first
            packets.pop()
            if packets:
                queue.put_nowait(None)
        return packets


class Transports:
    """The Engine.IO sockets of a server (`socketio.AsyncServer.eio`)."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @property
    def ids(self) -> list[str]:
        """Ids of all transports."""
        return list(self._engine.sockets)

    def quicken(self, engine_sid: str) -> None:
        """Have a new transport wait the quick way; Engine.IO cannot be told which class to use."""
        if (socket := self._engine.sockets.get(engine_sid)) is not None:
            socket.__class__ = QuickSocket

    async def drop_all(self) -> None:
        """Close every transport, spread over a second.

        A `disconnect` packet of Socket.IO would bring every client back without a pause; a
        transport that closes brings it back after a second or more, with jitter.
        """
        ids = self.ids
        random.shuffle(ids)
        pauses = [CLOSE_SPREAD_S * place / len(ids) for place in range(len(ids))]
        await asyncio.gather(*map(self._drop_after, ids, pauses))

    async def _drop_after(self, engine_sid: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self.drop(engine_sid)

    async def drop(self, engine_sid: str) -> None:
        """Close a transport. Engine.IO's own way would wait for a client that reads no more."""
        socket = self._engine.sockets.pop(engine_sid, None)
        if socket is None:
            return
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await socket.close(wait=False, reason=self._engine.reason.SERVER_DISCONNECT)
        except Exception:  # gone meanwhile, or its end is told to somebody who hangs
            log.debug("socket %s was not closed in order", engine_sid, exc_info=True)
        socket.queue.put_nowait(None)  # the writer ends after the last packet, and closes
