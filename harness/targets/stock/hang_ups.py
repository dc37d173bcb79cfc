"""Ends the work for clients that have hung up, as many apps with long answers do."""

from __future__ import annotations

import os

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CANCEL = os.environ.get("STOCK_ON_HANG_UP") == "cancel"  # else work goes on for nobody


class CancelOnHangUp:
    """Middleware that cancels a request when its client closes the connection.

    It is what Starlette itself does for streamed answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not CANCEL:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)

        async def replay() -> Message:
            return body.pop(0) if body else await receive()

        async with anyio.create_task_group() as group:
            group.start_soon(_watch, receive, group.cancel_scope)
            await self.app(scope, replay, send)
            group.cancel_scope.cancel()


async def _body(receive: Receive) -> list[Message]:
    """Read the whole request, so that what comes next is the client's leaving."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


async def _watch(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
