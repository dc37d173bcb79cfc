"""What every route uses: who asks, JSON in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import Depends, HTTPException, Request, Response

from runtime.accounts.tokens import Identity

if TYPE_CHECKING:
    from runtime.services import Services

TOKEN_COOKIE = "token"  # noqa: S105 - a cookie's name
LARGEST_BODY = 4 << 20


def services(request: Request) -> Services:
    """Return the worker's services."""
    found: Services = request.app.state.services
    return found


def token_of(request: Request) -> str:
    """Return the token of the Authorization header, else of the cookie, else an empty text."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.cookies.get(TOKEN_COOKIE, "")


async def identity(request: Request) -> Identity:
    """Return who asks; 401 without a valid token. A database that is away becomes a 503."""
    token = token_of(request)
    found = await services(request).tokens.verify(token) if token else None
    if found is None:
        raise HTTPException(401, "Your session has expired or is invalid. Please sign in again.")
    return found


async def admin(who: Annotated[Identity, Depends(identity)]) -> Identity:
    """Return who asks; 403 unless it is an admin."""
    if not who.is_admin:
        raise HTTPException(403, "Only an admin may do this.")
    return who


Who = Annotated[Identity, Depends(identity)]
Admin = Annotated[Identity, Depends(admin)]


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body; 413 when it is too long, 422 unless it is a JSON object."""
    if int(request.headers.get("content-length") or 0) > LARGEST_BODY:
        raise HTTPException(413, f"The body is longer than {LARGEST_BODY} bytes.")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise HTTPException(422, f"The body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise HTTPException(422, "The body must be a JSON object.")
    return body


def text_field(body: dict[str, Any], name: str) -> str:
    """Return a text field of the body; 422 when it is missing or empty."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise HTTPException(422, f"`{name}` must be a text that is not empty.")
    return value


def reply(body: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(body), status, media_type="application/json")
