"""The stock app: routes, sessions and sockets put together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio
from fastapi import FastAPI, Request
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

from harness.targets.stock import config, jobs, models, own_events, pools, tasks, users
from harness.targets.stock.clients import make_session_client
from harness.targets.stock.hang_ups import CancelOnHangUp
from harness.targets.stock.settings import OWN_EVENTS, redis
from harness.targets.stock.sockets import sio, tell
from harness.targets.stock.users import Current


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Listen for stops and clean up as long as the app runs; for events if that is its business."""
    jobs.start()
    work = [tasks.listen_for_stops(), pools.clean_usage()]
    if OWN_EVENTS:
        work.append(own_events.listen(sio))
    running = [asyncio.create_task(one) for one in work]
    yield
    for one in running:
        one.cancel()


api = FastAPI(lifespan=lifespan)
api.include_router(users.router)
api.include_router(tasks.router)
api.include_router(config.router)
api.include_router(models.router)
api.add_middleware(SessionAutoloadMiddleware, paths=["/api/v1/session"])
api.add_middleware(
    SessionMiddleware,
    store=RedisStore(connection=make_session_client()),
    cookie_name="owui-session",
    cookie_https_only=False,
    lifetime=users.DAY_S,
)
api.add_middleware(CancelOnHangUp)


@api.get("/health")
async def health() -> dict[str, bool]:
    """Say that the process answers."""
    return {"status": True}


@api.get("/ready")
async def ready() -> dict[str, bool]:
    """Say that Redis answers."""
    return {"status": bool(await redis.ping())}


@api.get("/api/v1/session/data")
async def session_data(request: Request, _user: Current) -> dict[str, Any]:
    """Return what the session holds."""
    return {"data": dict(request.session)}


@api.post("/api/v1/session/data")
async def keep_in_session(values: dict[str, Any], request: Request, _user: Current) -> Any:
    """Keep values in the session."""
    request.session.update(values)
    return {"data": dict(request.session)}


@api.get("/api/v1/users/{user_id}/active")
async def active(user_id: str, _user: Current) -> dict[str, bool]:
    """Tell whether a user is online."""
    return {"active": await pools.online(user_id)}


@api.get("/api/usage")
async def usage(_user: Current) -> dict[str, list[str]]:
    """Return the models in use."""
    return {"model_ids": await pools.used()}


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
