"""The events of chats, channels, notes and model usage: who joins what, and what is told there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import socketio

from runtime.realtime.identities import Identities, SocketIdentity
from runtime.realtime.usage import UsagePool
from runtime.storage.memberships import Kind, Permission, Resource

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 2.0
CHATS_PER_SOCKET = 50
LONGEST_ID = 64

Handler = Callable[[str, SocketIdentity, dict[str, Any]], Awaitable[Any]]


class Access(Protocol):
    """Who may do what (`runtime.storage.memberships.Memberships`)."""

    async def permission(
        self, kind: Kind, identifier: str, user: str, role: str
    ) -> Permission | None:
        """Return what an account may do."""

    async def visible(self, kind: Kind, user: str, role: str) -> list[Resource]:
        """Return what an account may see."""

    async def note_read(self, kind: Kind, identifier: str, user: str) -> float:
        """Store that an account has read everything; return when."""


class Rooms(Protocol):
    """The rooms of the Socket.IO server (`runtime.realtime.server.SocketServer`)."""

    async def enter(self, sid: str, room: str) -> None:
        """Let a socket into a room."""

    async def leave(self, sid: str, room: str) -> None:
        """Take a socket out of a room."""

    def in_room(self, sid: str, room: str) -> bool:
        """Tell whether a socket of this worker is in a room."""

    def count(self, sid: str, kind: str) -> int:
        """Return in how many rooms of a kind a socket is."""

    async def emit(self, event: str, payload: Any, room: str, skip_sid: str | None = None) -> None:
        """Send to a room on all workers."""


class RoomEvents:
    """Handles what sockets send; every event is acknowledged with True or False, within 2 s."""

    def __init__(
        self, rooms: Rooms, identities: Identities, access: Access, usage: UsagePool
    ) -> None:
        self._rooms = rooms
        self._identities = identities
        self._access = access
        self._usage = usage
        self._chat_actions: dict[str, Handler] = {
            "join": self._join_chat,
            "leave": self._leave_chat,
            "typing": self._type_in_chat,
            "last_read_at": self._read_chat,
        }

    def register(self, sio: socketio.AsyncServer) -> None:
        """Listen to the events."""
        sio.on("join-channels", self._guarded(self._join_channels))
        sio.on("join-note", self._guarded(self._join_note))
        sio.on("events:channel", self._guarded(self._on_channel))
        sio.on("events:chat", self._guarded(self._on_chat))
        sio.on("usage", self._guarded(self._on_usage))

    def _guarded(self, handler: Handler) -> Callable[..., Awaitable[bool]]:
        """Return the handler for sockets with a valid token, bounded in time."""

        async def handle(sid: str, data: Any = None) -> bool:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    who = await self._identities.current(sid)
                    if who is None:
                        return False
                    return bool(await handler(sid, who, data if isinstance(data, dict) else {}))
            except Exception as error:  # the client is told; its socket stays
                log.warning("event not handled: %s: %s", type(error).__name__, error)
                return False

        return handle

    # --- channels --------------------------------------------------------------------------

    async def join_channels(self, sid: str, who: SocketIdentity) -> None:
        """Let a socket into the rooms of all channels that its user may see."""
        for channel in await self._access.visible("channel", who.user.id, who.user.role):
            await self._rooms.enter(sid, f"channel:{channel.id}")

    async def _join_channels(self, sid: str, who: SocketIdentity, _: dict[str, Any]) -> bool:
        await self.join_channels(sid, who)
        return True

    async def _on_channel(self, sid: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        channel, inner = _identifier(data, "channel_id"), _inner(data)
        room = f"channel:{channel}"
        if not channel or not self._rooms.in_room(sid, room):
            return False
        if inner.get("type") == "last_read_at":
            await self._access.note_read("channel", channel, who.user.id)
            return True
        if inner.get("type") != "typing":
            return False
        payload = {
            "channel_id": channel,
            "message_id": data.get("message_id"),
            "data": {"type": "typing", "data": _typing(inner)},
            "user": _shown(who),
        }
        await self._rooms.emit("events:channel", payload, room)
        return True

    # --- notes -----------------------------------------------------------------------------

    async def _join_note(self, sid: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        note = _identifier(data, "note_id")
        if not note or not await self._permission("note", note, who):
            return False
        await self._rooms.enter(sid, f"note:{note}")
        return True

    # --- chats -----------------------------------------------------------------------------

    async def _on_chat(self, sid: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        action = self._chat_actions.get(str(_inner(data).get("type")))
        if action is None or not _identifier(data, "chat_id"):
            return False
        return bool(await action(sid, who, data))

    async def _join_chat(self, sid: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        chat = _identifier(data, "chat_id")
        if not await self._permission("chat", chat, who):
            return False
        if self._rooms.count(sid, "chat:") >= CHATS_PER_SOCKET:
            return False
        await self._rooms.enter(sid, f"chat:{chat}")
        return True

    async def _leave_chat(self, sid: str, _: SocketIdentity, data: dict[str, Any]) -> bool:
        room = f"chat:{_identifier(data, 'chat_id')}"
        there = self._rooms.in_room(sid, room)
        await self._rooms.leave(sid, room)
        return there

    async def _type_in_chat(self, sid: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        chat = _identifier(data, "chat_id")
        room = f"chat:{chat}"
        if not self._rooms.in_room(sid, room):
            return False
        if await self._permission("chat", chat, who) != "write":
            return False
        payload = {
            "chat_id": chat,
            "user_id": who.user.id,
            "user": _shown(who),
            "shared": True,
            "data": {"type": "typing", "data": _typing(_inner(data))},
        }
        await self._rooms.emit("events", payload, room, skip_sid=sid)
        return True

    async def _read_chat(self, _: str, who: SocketIdentity, data: dict[str, Any]) -> bool:
        chat = _identifier(data, "chat_id")
        if not await self._permission("chat", chat, who):
            return False
        at = await self._access.note_read("chat", chat, who.user.id)
        told = {"type": "chat:list", "data": {"chat_id": chat, "last_read_at": int(at)}}
        payload = {"chat_id": chat, "message_id": None, "data": told}
        await self._rooms.emit("events", payload, f"user:{who.user.id}")
        return True

    # --- usage -----------------------------------------------------------------------------

    async def _on_usage(self, sid: str, _: SocketIdentity, data: dict[str, Any]) -> bool:
        model = data.get("model")
        return isinstance(model, str) and self._usage.use(sid, model)

    async def _permission(
        self, kind: Kind, identifier: str, who: SocketIdentity
    ) -> Permission | None:
        return await self._access.permission(kind, identifier, who.user.id, who.user.role)


def _identifier(data: dict[str, Any], name: str) -> str:
    """Return an id of the payload, empty unless it can be one."""
    value = data.get(name)
    return value if isinstance(value, str) and len(value) <= LONGEST_ID else ""


def _inner(data: dict[str, Any]) -> dict[str, Any]:
    inner = data.get("data")
    return inner if isinstance(inner, dict) else {}


def _typing(inner: dict[str, Any]) -> dict[str, bool]:
    data = inner.get("data")
    return {"typing": bool(data.get("typing")) if isinstance(data, dict) else False}


def _shown(who: SocketIdentity) -> dict[str, str]:
    """Return what other users may know of a user."""
    return {"id": who.user.id, "name": who.user.name}
