"""Mutant: a worker that cannot write to Redis throws off the users whose sockets it holds."""

from __future__ import annotations

import asyncio
from typing import Any

from runtime.realtime.server import SocketServer
from runtime.redis.eventlog import EventLog
from tests.mutants.broken import serve

start_server = SocketServer.start
publish_kept = EventLog.publish
servers: list[SocketServer] = []
closing: set[asyncio.Task[Any]] = set()


async def start_and_remember(self: SocketServer) -> None:
    """Start, and be known to the defect."""
    servers.append(self)
    await start_server(self)


def publish_or_hang_up(self: EventLog, room: str, payload: bytes) -> None:
    """Publish; without a connection, close every socket of this worker as well."""
    publish_kept(self, room, payload)
    if self._writer._wire is None:
        for engine in [server.sio.eio for server in servers]:
            closing.update(asyncio.ensure_future(engine.disconnect(sid)) for sid in engine.sockets)


if __name__ == "__main__":
    SocketServer.start = start_and_remember  # type: ignore[method-assign]  # to find the sockets
    EventLog.publish = publish_or_hang_up  # type: ignore[method-assign]  # the defect
    serve()
