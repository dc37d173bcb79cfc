"""Closing connections under Socket.IO, so that their clients come back one after the other."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

log = logging.getLogger(__name__)

CLOSE_WITHIN_S = 4.0
CLOSE_SPREAD_S = 1.0


class Transports:
    """The Engine.IO sockets of a server (`socketio.AsyncServer.eio`)."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @property
    def ids(self) -> list[str]:
        """Ids of all transports."""
        return list(self._engine.sockets)

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
