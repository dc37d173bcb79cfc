"""The caller's session data. Only these routes touch the session store."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.sessions import (
    COOKIE,
    Session,
    SessionConflict,
    SessionEnded,
    SessionTooLarge,
)
from runtime.api.schemas import JSON_OBJECT, SessionData
from runtime.api.support import Who, json_object, reply, services
from runtime.redis.errors import RedisUnavailable

router = APIRouter(prefix="/api/v1/session")
LARGEST_SESSION_KEYS = 100


@router.get("/data", response_model=SessionData)
async def read(request: Request, who: Who) -> Response:
    """Return the session's data, empty when there is none."""
    here = services(request)
    try:
        session = await here.sessions.load(request.cookies.get(COOKIE), who)
    except RedisUnavailable as error:
        raise HTTPException(503, f"Sessions are not available: {error}") from None
    return _answer(request, session)


@router.post("/data", response_model=SessionData, openapi_extra=JSON_OBJECT)
async def write(request: Request, who: Who) -> Response:
    """Set keys of the session.

    503: nothing was written. 504: nobody knows whether it was.
    """
    changes = await json_object(request)
    if len(changes) > LARGEST_SESSION_KEYS:
        raise HTTPException(422, f"More than {LARGEST_SESSION_KEYS} keys at once.")
    try:
        session = await services(request).sessions.merge(request.cookies.get(COOKIE), who, changes)
    except RedisUnavailable as error:
        status = 503 if error.refused else 504
        raise HTTPException(status, f"Sessions are not available: {error}") from None
    except SessionConflict:
        raise HTTPException(409, "Others keep changing this session; try again.") from None
    except SessionEnded:
        raise HTTPException(409, "The session was ended meanwhile; sign in again.") from None
    except SessionTooLarge as error:
        raise HTTPException(413, str(error)) from None
    return _answer(request, session)


def _answer(request: Request, session: Session | None) -> Response:
    answer = reply({"data": session.data if session else {}})
    if session is not None:
        flags = services(request).cookie_flags("session")
        answer.set_cookie(COOKIE, session.cookie, max_age=session.max_age, httponly=True, **flags)
    return answer
