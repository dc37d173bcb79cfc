"""How bodies come in: strict JSON, bounded in size, and one text that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.api.support import LARGEST_BODY, reply

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
TOO_LARGE = f"The body is longer than {LARGEST_BODY} bytes."


class StrictRequest(Request):
    """A request whose JSON is what the standard says: no NaN, no broken surrogates."""

    async def json(self) -> Any:
        """Return the parsed body; raise JSONDecodeError."""
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """A route that reads its body as StrictRequest does."""

    def get_route_handler(self) -> Handler:
        """Return the handler."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


class BodyLimit:
    """Refuses bodies that say, or turn out, to be too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted unless its length is known."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return await self._app(scope, receive, send)
        length = _content_length(scope)
        if length is None:
            receive = _counted(receive)
        elif length > LARGEST_BODY:
            return await reply({"detail": TOO_LARGE}, 413)(scope, receive, send)
        return await self._app(scope, receive, send)


def _content_length(scope: Scope) -> int | None:
    """Return the stated length; None when there is none, or no number."""
    stated = next((v for k, v in scope["headers"] if k == b"content-length"), b"")
    return int(stated) if stated.isdigit() else None


def _counted(receive: Receive) -> Receive:
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY:
            raise HTTPException(413, TOO_LARGE)
        return message

    return counting


async def not_as_expected(_: Request, error: Exception) -> Response:
    """Answer 422 with one line: each field that is wrong, and why. Says nothing of its value."""
    assert isinstance(error, RequestValidationError)
    return reply({"detail": "; ".join(_line(found) for found in error.errors())}, 422)


def _line(found: Any) -> str:
    place = ".".join(str(part) for part in found["loc"][1:])
    return f"`{place}`: {found['msg']}" if place else str(found["msg"])
