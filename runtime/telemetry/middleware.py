"""One thin ASGI layer: how long requests take, and their spans when traces are on."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.operate.metrics import Metrics

UNKNOWN_ROUTE = "unknown"
SERVER_ERROR = 500
METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})


def route_of(scope: Scope) -> str:
    """Return the pattern of the route that answered: paths hold ids, and there are many."""
    return str(getattr(scope.get("route"), "path", UNKNOWN_ROUTE))


class Answered:
    """Passes the answer on and remembers its status."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = SERVER_ERROR  # an application that answers nothing makes one

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class RequestMetrics:
    """Measures every HTTP request until its last byte; sockets pass untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answered = Answered(send)
        try:
            await self._app(scope, receive, answered.send)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            took = time.perf_counter() - began
            self._metrics.request(method, route_of(scope), answered.status, took)
