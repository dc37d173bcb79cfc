"""The Socket.IO server, with python-socketio's own Redis manager."""

from __future__ import annotations

import os
from typing import Any

import socketio

from harness.targets.stock import own_events, pools
from harness.targets.stock.clients import manager_options, manager_url
from harness.targets.stock.settings import OWN_EVENTS
from harness.targets.stock.users import who

ROSTER = os.environ.get("STOCK_ON_JOIN") == "tell-all"  # else the others are told nothing

sio = socketio.AsyncServer(
    async_mode="asgi",
    cors_allowed_origins="*",
    client_manager=None
    if OWN_EVENTS
    else socketio.AsyncRedisManager(manager_url(), redis_options=manager_options()),
)


@sio.on("user-join")  # type: ignore[untyped-decorator]  # shipped without types
async def user_join(sid: str, data: dict[str, Any]) -> dict[str, Any]:
    """Let a socket into its user's room."""
    user = await who(data["auth"]["token"])
    await sio.enter_room(sid, f"user:{user['id']}")
    await pools.joined(sid, user["id"])
    if ROSTER:
        await sio.emit("user-list", {"user_ids": await pools.roster()})
    return {"id": user["id"], "name": user["name"]}


@sio.on("usage")  # type: ignore[untyped-decorator]  # shipped without types
async def usage(_sid: str, data: dict[str, Any]) -> None:
    """Take note of a model in use."""
    await pools.uses(data["model"])


@sio.on("disconnect")  # type: ignore[untyped-decorator]  # shipped without types
async def disconnect(sid: str, _reason: str) -> None:
    """Forget the socket."""
    await pools.left(sid)


@sio.on("heartbeat")  # type: ignore[untyped-decorator]  # shipped without types
async def heartbeat(_sid: str, _data: dict[str, Any]) -> None:
    """Take a sign of life."""


async def tell(user: str, chat_id: str, message_id: str, kind: str, data: Any) -> None:
    """Send an event about a message to every socket of a user, on all workers."""
    payload = {"chat_id": chat_id, "message_id": message_id, "data": {"type": kind, "data": data}}
    if OWN_EVENTS:
        await own_events.publish(f"user:{user}", payload)
    else:
        await sio.emit("events", payload, room=f"user:{user}")
