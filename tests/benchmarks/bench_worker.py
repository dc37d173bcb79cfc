"""The runtime with three more routes: what is measured against, and what emits the load.

Run as `python -m tests.benchmarks.bench_worker serve …`, like the runtime itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from redis.asyncio import Redis

import runtime.app
from runtime.accounts.sessions import COOKIE
from runtime.accounts.tokens import Claims
from runtime.api.support import reply, services, token_of
from runtime.cli import main
from runtime.settings import Settings

router = APIRouter(prefix="/bench")
create_runtime = runtime.app.create_app
UNSENT = 1000  # the emitter waits above this, as a caller of PUBLISH waits for its reply
PAUSE_S = 0.0005
MONTH_S = 30 * 24 * 3600


async def verified(request: Request) -> Claims:
    """Return the claims of the token, verified by its signature alone."""
    claims = services(request).tokens.decode(token_of(request))
    if claims is None:
        raise HTTPException(401, "The token is not valid.")
    return claims


Verified = Annotated[Claims, Depends(verified)]


@router.get("/jwt")
async def with_jwt(request: Request, _: Verified) -> Response:
    """Answer as /api/v1/session/data does, after nothing but the verification."""
    return _answer(request)


@router.get("/get")
async def with_get(request: Request, who: Verified) -> Response:
    """Do the same after one GET by redis-py's own client and pool."""
    await _redis_py(request).get(f"bench:{who.jti}")
    return _answer(request)


def _answer(request: Request) -> Response:
    answer = reply({"data": {"theme": "dark"}})
    flags = services(request).cookie_flags("session")
    value = request.cookies.get(COOKIE, "")
    answer.set_cookie(COOKIE, value, max_age=MONTH_S, httponly=True, **flags)
    return answer


def _redis_py(request: Request) -> Redis:
    state: Any = request.app.state
    if not hasattr(state, "redis_py"):
        state.redis_py = Redis.from_url(os.environ["REDIS_URL"])
    client: Redis = state.redis_py
    return client


@router.post("/emit")
async def emit(request: Request) -> Response:
    """Emit `count` events to `user`: `per_s` of them, or as fast as `at_once` callers can.

    Answers with when the first was emitted (monotonic s).
    """
    body = await request.json()
    emitter = Emitter(services(request).realtime, body["user"])
    began = time.monotonic()
    if per_s := body.get("per_s"):
        await emitter.on_time(body["count"], per_s)
    else:
        await emitter.at_once(body["count"], body["at_once"])
    return reply({"began": began})


class Emitter:
    """Emits numbered events that carry the time of their emission."""

    def __init__(self, realtime: Any, user: str) -> None:
        self._realtime = realtime
        self._user = user
        self._numbers = itertools.count()
        log = getattr(realtime.manager, "events", None)
        self._outbox = getattr(log, "outbox", None)  # the stock manager has none

    async def on_time(self, count: int, per_s: float) -> None:
        """Emit on an absolute timetable."""
        began = time.monotonic()
        for number in range(count):
            left = began + number / per_s - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            await self._emit()

    async def at_once(self, count: int, callers: int) -> None:
        """Emit as fast as so many callers can, each one at a time."""
        each = count // callers
        await asyncio.gather(*(self._caller(each) for _ in range(callers)))

    async def _caller(self, count: int) -> None:
        for _ in range(count):
            await self._emit()
            while self._outbox and self._outbox.unsent > UNSENT:  # noqa: ASYNC110 - no such event
                await asyncio.sleep(PAUSE_S)

    async def _emit(self) -> None:
        data = {"n": next(self._numbers), "t": time.monotonic()}
        payload = {"chat_id": "c", "message_id": "m", "data": {"type": "bench", "data": data}}
        await self._realtime.emit_to_user(self._user, payload)


def create_app(settings: Settings) -> FastAPI:
    """Return the runtime's application with the routes of this module."""
    app = create_runtime(settings)
    app.include_router(router)
    return app


if __name__ == "__main__":
    runtime.app.create_app = create_app
    main()
