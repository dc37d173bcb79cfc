"""The Socket.IO server: who connects, joins, lives and leaves."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import socketio

from runtime.realtime import codec
from runtime.realtime.admission import Admission
from runtime.realtime.calls import EventCalls
from runtime.realtime.identities import (
    Authenticate,
    CannotVerify,
    Identities,
    SocketIdentity,
)
from runtime.realtime.leader import Leader, run_when_leading
from runtime.realtime.manager import LocalDelivery, MemoryManager, StreamsManager, encode_event
from runtime.realtime.presence import Presence
from runtime.realtime.rooms import Access, RoomEvents
from runtime.realtime.session_pool import Record, SessionPool
from runtime.realtime.session_reaper import SessionReaper
from runtime.realtime.transports import Transports
from runtime.realtime.turnstile import Turnstile, WaitedTooLong
from runtime.realtime.usage import UsagePool
from runtime.redis.keys import Keys
from runtime.redis.topology import Topology
from runtime.settings import Settings
from runtime.storage.memberships import Memberships
from runtime.supervision import Supervisor

log = logging.getLogger(__name__)

MAX_MESSAGE = 16 * 1024 * 1024
LEAVE_WITHIN_S = 2.0
TURN_WITHIN_S = 5.0
REAP_EVERY_S = 5.0
CLEAN_EVERY_S = 3.0

Leave = Callable[[str], Awaitable[None] | None]


def create_manager(settings: Settings, topology: Topology | None, keys: Keys, instance: str) -> Any:
    """Return the Socket.IO manager that the settings choose; `instance` is as in the pool."""
    sockets = settings.websocket()
    if settings.manager and topology:
        log.info("Using Redis to manage websockets.")
    if settings.manager == "redis" and topology:
        return StreamsManager(topology, keys, instance, settings.websocket_event_log_length)
    if settings.manager == "redis-pubsub" and topology:
        from runtime.realtime.pubsub import PubSubManager

        return PubSubManager(sockets, keys)
    return MemoryManager()


class SocketServer:
    """python-socketio's server with this application's events.

    `asgi` is to be mounted at `/ws`: it answers `/ws/socket.io`. `authenticate` may raise when it
    cannot know, which is no refusal. What is added to `on_leave` is told of every socket that goes.
    """

    def __init__(
        self,
        settings: Settings,
        manager: Any,
        authenticate: Authenticate,
        pool: SessionPool,
        *,
        access: Access,
        usage: UsagePool,
        leader: Leader,
        supervisor: Supervisor,
    ) -> None:
        self.manager = manager
        self.pool, self.usage, self.leader = pool, usage, leader
        self._supervisor = supervisor
        self.sio = _socketio_server(settings, manager)
        self.identities = Identities(authenticate, self.close)
        self.presence = Presence(pool, self._tell_presence)
        deadline = settings.websocket_event_caller_timeout
        self.calls = EventCalls(self.sio, manager, pool, supervisor, deadline)
        self.rooms = RoomEvents(self, self.identities, access, usage)
        self.reaper = SessionReaper(pool)
        self.transports = Transports(self.sio.eio)
        self.turnstile = Turnstile(settings.websocket_max_handshakes)
        self.admission = self.asgi = self._admission(settings.websocket_max_anonymous)
        self.on_leave: list[Leave] = [
            self.identities.remove,
            self._leave_rooms,
            usage.remove,
            self.calls.session_gone,
        ]
        self._listen()

    def _admission(self, limit: int) -> Admission:
        return Admission(
            socketio.ASGIApp(self.sio, socketio_path="/ws/socket.io"),
            limit,
            late=lambda: self.turnstile.late,
            engine_sockets=lambda: self.sio.eio.sockets,
            known=lambda: len(self.identities),
            is_known=lambda sid: self.manager.sid_from_eio_sid(sid, "/") in self.identities,
            close=self.transports.drop,
        )

    def _listen(self) -> None:
        self.sio.on("connect", self._on_connect)
        self.sio.on("user-join", self._on_user_join)
        self.sio.on("heartbeat", self._on_heartbeat)
        self.sio.on("disconnect", self._on_disconnect)
        self.rooms.register(self.sio)
        self.manager.on_control(self._on_control)
        self.reaper.on_reaped = self._on_reaped
        self.reaper.on_dead = self._on_dead
        self.pool.on_lost = self._on_lost

    # --- for the application ---------------------------------------------------------------

    async def start(self) -> None:
        """Begin to hear the other workers and to mirror the pools; does not wait for Redis."""
        await self.manager.start()
        self.pool.start(self._supervisor)
        self.usage.start(self._supervisor)
        self.presence.start(self._supervisor)
        self._supervisor.run("socket verification", self.identities.reverify_forever)
        self._supervisor.run("anonymous sockets", self.admission.sweep_forever)
        self._supervisor.run("leader", self.leader.campaign)
        lead = (self._supervisor, self.leader)
        run_when_leading(*lead, "session pool cleanup", REAP_EVERY_S, self.reaper)
        run_when_leading(*lead, "usage pool cleanup", CLEAN_EVERY_S, self.usage.clean)

    async def stop(self) -> None:
        """Close every socket, hand over unsent events, clean the pools."""
        await self.close_sockets()
        await self.leader.release()
        await self.manager.stop()
        await self.pool.stop()
        await self.sio.shutdown()

    async def emit(self, event: str, payload: Any, room: str, skip_sid: str | None = None) -> None:
        """Send an event to a room on every worker, but not to one socket of this one."""
        if isinstance(self.manager, (StreamsManager, MemoryManager)):
            self.manager.emit_now(event, payload, room, skip_sid)
        else:
            await self.sio.emit(event, payload, room=room, skip_sid=skip_sid)

    async def emit_here(self, event: str, payload: Any, sid: str) -> None:
        """Send an event to one socket of this worker; it does not pass through Redis."""
        if isinstance(self.manager, LocalDelivery):
            self.manager.send_local(sid, encode_event(event, payload))
        else:
            await self.sio.emit(event, payload, to=sid)

    async def emit_to_user(self, user_id: str, payload: Any) -> None:
        """Send the event `events` to every socket of a user, on every worker."""
        await self.emit("events", payload, f"user:{user_id}")

    async def recheck_room(self, room: str) -> None:
        """Verify this worker's sockets of `token:{jti}` or `user:{id}` now; close what is void."""
        for sid, _ in self._sockets(room):
            await self.identities.recheck(sid)

    async def enter_users(self, users: list[str], room: str) -> None:
        """Let all sockets of users into a room, on every worker."""
        await self._enter_here(users, room)
        await self.manager.control({"action": "enter_room", "users": users, "room": room})

    async def leave_users(self, users: list[str], room: str) -> None:
        """Take all sockets of users out of a room, on every worker."""
        await self._leave_here(users, room)
        await self.manager.control({"action": "leave_room", "users": users, "room": room})

    @property
    def sockets(self) -> int:
        """Sockets of this worker."""
        return len(self._sockets(""))

    def status(self) -> dict[str, Any]:
        """Return what /ready tells of the sockets."""
        return {
            **self.manager.status(),
            "connected": self.sockets,
            "signed_in": len(self.identities),
            "refused": self.admission.refused,
            "waiting": self.turnstile.waiting,
            "unverifiable": self.identities.unverifiable,
            "leader": {"leads": bool(self.leader.fence), "elections": self.leader.elections},
            "reaped": self.reaper.removed,
            **self.presence.status(),
        }

    # --- rooms -----------------------------------------------------------------------------

    async def enter(self, sid: str, room: str) -> None:
        """Let a socket of this worker into a room, unless it is gone."""
        if not self.manager.is_connected(sid, "/") or self.in_room(sid, room):
            return
        await self.sio.enter_room(sid, room)
        self.pool.enter(sid, room)
        self.presence.changed(room)

    async def leave(self, sid: str, room: str) -> None:
        """Take a socket of this worker out of a room."""
        if not self.in_room(sid, room):
            return
        await self.sio.leave_room(sid, room)
        self.pool.leave(sid, room)
        self.presence.changed(room)

    def in_room(self, sid: str, room: str) -> bool:
        """Tell whether a socket of this worker is in a room."""
        members = self.manager.rooms.get("/", {}).get(room)
        return members is not None and sid in members

    def count(self, sid: str, kind: str) -> int:
        """Return in how many rooms of a kind (`chat:`) a socket is."""
        return sum(room.startswith(kind) for room in self.pool.rooms_of(sid))

    def _leave_rooms(self, sid: str) -> None:
        for room in self.pool.remove(sid):
            self.presence.changed(room)

    async def _enter_here(self, users: list[str], room: str) -> None:
        for sid in [sid for user in users for sid, _ in self._sockets(f"user:{user}")]:
            await self.enter(sid, room)

    async def _leave_here(self, users: list[str], room: str) -> None:
        for sid in [sid for user in users for sid, _ in self._sockets(f"user:{user}")]:
            await self.leave(sid, room)

    # --- events ----------------------------------------------------------------------------

    async def _on_connect(self, sid: str, _environ: dict[str, Any], auth: Any = None) -> None:
        self.transports.quicken(self.manager.eio_sid_from_sid(sid, "/"))
        if token := _token(auth):
            await self._admit(sid, token)

    async def _on_user_join(self, sid: str, data: Any = None) -> dict[str, str] | None:
        token = _token(data.get("auth")) if isinstance(data, dict) else ""
        identity = await self._admit(sid, token) if token else None
        if identity is None:
            return None
        self._supervisor.spawn(self._join_channels(sid, identity), "joining channels")
        return {"id": identity.user.id, "name": identity.user.name}

    async def _join_channels(self, sid: str, identity: SocketIdentity) -> None:
        async with self.turnstile.turn():
            if self.manager.is_connected(sid, "/"):
                await self.rooms.join_channels(sid, identity)

    async def _on_heartbeat(self, sid: str, _data: Any = None) -> None:
        self.pool.touch(sid)

    async def _on_disconnect(self, sid: str, _reason: str = "") -> None:
        """Tell everybody that a socket is gone; whatever fails there, nothing of it stays here."""
        for leave in self.on_leave:
            try:
                async with asyncio.timeout(LEAVE_WITHIN_S):
                    result = leave(sid)
                    if inspect.isawaitable(result):
                        await result
            except Exception:  # python-socketio would keep the socket's rooms for ever
                log.exception("leaving failed")

    async def _admit(self, sid: str, token: str) -> SocketIdentity | None:
        """Let a socket into its user's room; None when the token is not valid, or nobody knows."""
        try:
            async with self.turnstile.turn(TURN_WITHIN_S):
                identity = await self.identities.verify(token)
        except CannotVerify:  # the client will join again
            return None
        except WaitedTooLong:  # it comes back after a pause of its own, with jitter
            await self._drop(sid)
            return None
        if identity is None or not self.manager.is_connected(sid, "/"):
            return None
        user = identity.user
        await self._leave_former(sid, user.id, identity.claims.jti)
        self.identities.add(sid, token, identity)
        self.pool.add(sid, user.id, user.name, user.role)
        await self.sio.enter_room(sid, f"user:{user.id}")
        await self.sio.enter_room(sid, f"token:{identity.claims.jti}")
        return identity

    async def _leave_former(self, sid: str, user: str, jti: str) -> None:
        """Take a socket that comes with another token out of what the old one opened."""
        rooms = self.manager.get_rooms(sid, "/") or []
        same_user = f"user:{user}" in rooms
        for room in rooms:
            kept = room == sid or (same_user and not room.startswith("token:"))
            if not kept and room != f"token:{jti}":
                await self.leave(sid, room)
        if not same_user:
            self._leave_rooms(sid)

    def _tell_presence(self, room: str, users: list[dict[str, str]]) -> None:
        chat = room.removeprefix("chat:")
        data = {"type": "chat:presence", "data": {"users": users}}
        payload = {"chat_id": chat, "shared": True, "data": data}
        self._supervisor.spawn(self.emit("events", payload, room), "chat presence")

    # --- what other workers, and the leader, tell --------------------------------------------

    async def _on_control(self, message: dict[str, Any]) -> None:
        action = message.get("action")
        if action == "enter_room":
            await self._enter_here(list(message["users"]), str(message["room"]))
        elif action == "leave_room":
            await self._leave_here(list(message["users"]), str(message["room"]))
        else:
            self.calls.on_control(message)

    def _on_reaped(self, records: list[Record]) -> None:
        for room in {room for record in records for room in record["rooms"]}:
            self.presence.changed(room)

    def _on_lost(self, rooms: set[str]) -> None:
        for room in rooms:
            self.presence.changed(room)

    def _on_dead(self, instance: str) -> None:
        self.calls.instance_gone(instance)
        told = self.manager.control({"action": "instance_gone", "instance": instance})
        self._supervisor.spawn(told, "telling of a dead worker")

    # --- closing ---------------------------------------------------------------------------

    async def close(self, sid: str) -> None:
        """Close a socket of this worker; its client may not come back with the same token."""
        try:
            await self.sio.disconnect(sid, ignore_queue=True)
        except Exception:  # gone meanwhile
            log.debug("socket %s was gone", sid, exc_info=True)

    async def _drop(self, sid: str) -> None:
        """End a socket's connection without a word, so that its client does not hurry back."""
        if (engine_sid := self.manager.eio_sid_from_sid(sid, "/")) is not None:
            await self.transports.drop(engine_sid)

    async def close_sockets(self) -> None:
        """Take no new connection and drop those that there are, spread over a second."""
        self.admission.open = False
        await self.transports.drop_all()

    def _sockets(self, room: str) -> list[tuple[str, str]]:
        members = self.manager.rooms.get("/", {}).get(room or None)
        return list(members.items()) if members else []


def _token(auth: Any) -> str:
    return str(auth.get("token") or "") if isinstance(auth, dict) else ""


def _socketio_server(settings: Settings, manager: Any) -> socketio.AsyncServer:
    origins = settings.cors_origins
    return socketio.AsyncServer(
        async_mode="asgi",
        client_manager=manager,
        json=codec,
        cors_allowed_origins="*" if origins == ("*",) else list(origins),
        transports=["websocket"] if settings.enable_websocket_support else ["polling"],
        allow_upgrades=settings.enable_websocket_support,
        always_connect=True,
        ping_interval=settings.websocket_server_ping_interval,
        ping_timeout=settings.websocket_server_ping_timeout,
        max_http_buffer_size=MAX_MESSAGE,
    )


def create_socket_server(
    settings: Settings,
    manager: Any,
    authenticate: Authenticate,
    pool: SessionPool,
    *,
    keys: Keys,
    memberships: Memberships,
    supervisor: Supervisor,
) -> SocketServer:
    """Return the server with its pools, all on the session pool's Redis client."""
    ttl = settings.websocket_redis_lock_timeout
    return SocketServer(
        settings,
        manager,
        authenticate,
        pool,
        access=memberships,
        usage=UsagePool(pool.client, keys),
        leader=Leader(pool.client, keys, pool.instance, ttl),
        supervisor=supervisor,
    )
