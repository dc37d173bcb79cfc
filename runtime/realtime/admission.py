"""How many sockets may be on their way in: a bound on strangers, and on a herd.

Clients that were dropped come back all at once. Those that find the door full are refused before
anything was spent on them, and their library waits longer and longer, with jitter, before it
tries again; a socket that we had let in and closed would come back without a pause.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from runtime.supervision import Loop

log = logging.getLogger(__name__)

ANONYMOUS_S = 15.0  # a socket without a valid token is closed after this
SWEEP_S = 1.0
RETRY_AFTER_S = (3, 8)  # from, to: those who are refused together do not come back together
TRY_AGAIN_LATER = 1013  # a WebSocket status code

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Admission:
    """An ASGI application around Engine.IO's, and the clock of those who did not sign in.

    `engine_sockets()` holds the Engine.IO ids of all sockets, `known()` is how many of them are
    signed in, `is_known(id)` tells of one, `close(id)` ends one. `late()` tells whether those who
    are let in wait too long already.
    """

    def __init__(
        self,
        app: App,
        limit: int,
        late: Callable[[], bool],
        engine_sockets: Callable[[], Collection[str]],
        known: Callable[[], int],
        is_known: Callable[[str], bool],
        close: Callable[[str], Awaitable[None]],
    ) -> None:
        self._app = app
        self._limit = limit
        self._late = late
        self._engine_sockets = engine_sockets
        self._known = known
        self._is_known = is_known
        self._close = close
        self._since: dict[str, float] = {}
        self._handshakes = 0
        self.refused = 0
        self.open = True

    @property
    def strangers(self) -> int:
        """Sockets and handshakes without a valid token."""
        return len(self._engine_sockets()) - self._known() + self._handshakes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse what would be one stranger too many."""
        if not _is_new(scope):
            return await self._app(scope, receive, send)
        if not self.open or self.strangers >= self._limit or self._late():
            self.refused += 1
            return await _refuse(scope, receive, send)
        self._handshakes += 1
        accepted = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal accepted
            if not accepted:  # from here on Engine.IO knows it
                accepted = True
                self._handshakes -= 1
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._handshakes -= not accepted

    async def sweep_forever(self, loop: Loop) -> None:
        """Close strangers that stayed too long. Runs for ever."""
        while True:
            await self.sweep()
            loop.succeeded()
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """Look once."""
        now = time.monotonic()
        unknown = [sid for sid in self._engine_sockets() if not self._is_known(sid)]
        self._since = {sid: self._since.get(sid, now) for sid in unknown}
        late = [sid for sid, since in self._since.items() if now - since >= ANONYMOUS_S]
        for sid in late:
            await self._close(sid)


def _is_new(scope: Scope) -> bool:
    """Tell whether this asks for a new socket: those that exist name their id."""
    query = scope.get("query_string", b"")
    return scope["type"] in ("http", "websocket") and b"sid=" not in query and b"EIO=" in query


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        # becomes a 403; with the extension for other answers, uvicorn logs an error for each
        await receive()
        return await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
    retry_after = str(random.randint(*RETRY_AFTER_S)).encode()
    headers = [(b"retry-after", retry_after), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"Too many sockets wait to sign in."})
    return None
