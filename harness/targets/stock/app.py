"""The stock app: routes, sessions and sockets put together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio
from fastapi import FastAPI, Request
from redis.asyncio import Redis
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

from harness.targets.stock import tasks, users
from harness.targets.stock.settings import REDIS_URL
from harness.targets.stock.sockets import sio, tell
from harness.targets.stock.users import Current


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Listen for stops as long as the app runs."""
    listener = asyncio.create_task(tasks.listen_for_stops())
    yield
    listener.cancel()


api = FastAPI(lifespan=lifespan)
api.include_router(users.router)
api.include_router(tasks.router)
api.add_middleware(SessionAutoloadMiddleware, paths=["/api/v1/session"])
api.add_middleware(
    SessionMiddleware,
    store=RedisStore(connection=Redis.from_url(REDIS_URL)),
    cookie_name="owui-session",
    cookie_https_only=False,
    lifetime=users.DAY_S,
)


@api.get("/health")
async def health() -> dict[str, bool]:
    """Say that the process answers."""
    return {"status": True}


@api.get("/api/v1/session/data")
async def session_data(request: Request, _user: Current) -> dict[str, Any]:
    """Return what the session holds."""
    return {"data": dict(request.session)}


@api.post("/api/v1/session/data")
async def keep_in_session(values: dict[str, Any], request: Request, _user: Current) -> Any:
    """Keep values in the session."""
    request.session.update(values)
    return {"data": dict(request.session)}


@api.post("/api/v1/chats/new")
async def new_chat(_user: Current) -> dict[str, str]:
    """Make a chat."""
    return {"id": str(uuid.uuid4())}


@api.post("/api/v1/chats/{chat_id}/messages/{message_id}/event")
async def event(chat_id: str, message_id: str, form: dict[str, Any], user: Current) -> bool:
    """Send an event to the user's sockets."""
    await tell(user["id"], chat_id, message_id, form["type"], form["data"])
    return True


app = socketio.ASGIApp(sio, api, socketio_path="/ws/socket.io")
