"""A Socket.IO client of the harness's own comes in as the user of a token."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import aiohttp
import socketio

from harness.probes.base import close_quietly
from harness.targets.base import SOCKET_PATH

_SILENT = logging.getLogger("harness.sockets")  # a lost socket is recorded, not printed
_SILENT.setLevel(logging.CRITICAL + 1)


def make_client(http: aiohttp.ClientSession | None = None) -> socketio.AsyncClient:
    """Return a client that never comes back by itself and prints nothing."""
    return socketio.AsyncClient(
        reconnection=False,
        handle_sigint=False,
        http_session=http,
        logger=_SILENT,
        engineio_logger=_SILENT,
    )


async def join(
    client: socketio.AsyncClient,
    url: str,
    auth: Mapping[str, str],
    answer_s: float,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Connect to a worker by WebSocket, and join; each is answered within so many seconds.

    A client that cannot is closed again, and what went wrong is raised.
    """
    try:
        await client.connect(
            url,
            headers=dict(headers or {}),
            auth=auth,
            transports=["websocket"],
            socketio_path=SOCKET_PATH,
            wait_timeout=answer_s,
        )
        await client.call("user-join", {"auth": auth}, timeout=answer_s)
    except BaseException:
        await close_quietly(client.shutdown())
        raise
