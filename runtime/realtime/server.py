"""The Socket.IO server: who connects, joins, lives and leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import socketio

from runtime.realtime import codec
from runtime.realtime.manager import MemoryManager, StreamsManager
from runtime.realtime.session_pool import SessionPool
from runtime.redis.keys import Keys
from runtime.redis.topology import Topology
from runtime.settings import Settings

log = logging.getLogger(__name__)

ANONYMOUS_S = 15.0  # an unauthenticated socket is closed after this
REVERIFY_S = 30.0
MAX_MESSAGE = 16 * 1024 * 1024


class SocketUser(Protocol):
    """The account of a socket."""

    @property
    def id(self) -> str:
        """Return the account's id."""

    @property
    def name(self) -> str:
        """Return the name to show."""

    @property
    def role(self) -> str:
        """Return admin, user or pending."""


class SocketClaims(Protocol):
    """The claims of a socket's token."""

    @property
    def jti(self) -> str:
        """Return the token's id."""


class SocketIdentity(Protocol):
    """Who a token is for (`runtime.tokens.Identity`)."""

    @property
    def user(self) -> SocketUser:
        """Return the account."""

    @property
    def claims(self) -> SocketClaims:
        """Return the token's claims."""


Authenticate = Callable[[str], Awaitable[SocketIdentity | None]]


def create_manager(settings: Settings, topology: Topology | None, keys: Keys) -> Any:
    """Return the Socket.IO manager that the settings choose."""
    sockets = settings.websocket()
    if settings.manager == "redis" and topology:
        return StreamsManager(
            topology, keys, settings.instance_id, settings.websocket_event_log_length
        )
    if settings.manager == "redis-pubsub" and topology:
        from runtime.realtime.pubsub import PubSubManager

        return PubSubManager(sockets, keys)
    return MemoryManager()


def create_socket_server(
    settings: Settings, manager: Any, authenticate: Authenticate, pool: SessionPool
) -> SocketServer:
    """Return the server; `authenticate` may raise when it cannot know, which is no refusal."""
    return SocketServer(settings, manager, authenticate, pool)


class SocketServer:
    """python-socketio's server with this application's events.

    `asgi` is to be mounted at `/ws`: it answers `/ws/socket.io`.
    """

    def __init__(
        self, settings: Settings, manager: Any, authenticate: Authenticate, pool: SessionPool
    ) -> None:
        origins = settings.cors_origins
        self.manager = manager
        self.pool = pool
        self._authenticate = authenticate
        self._tokens: dict[str, str] = {}  # sid → token
        self._tasks: set[asyncio.Task[Any]] = set()
        self.sio = socketio.AsyncServer(
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
        self.asgi = socketio.ASGIApp(self.sio, socketio_path="/ws/socket.io")
        self.sio.on("connect", self._on_connect)
        self.sio.on("user-join", self._on_user_join)
        self.sio.on("heartbeat", self._on_heartbeat)
        self.sio.on("disconnect", self._on_disconnect)
        manager.on_control(self._on_control)

    # --- for the application ---------------------------------------------------------------

    async def start(self) -> None:
        """Begin to hear the other workers and to mirror the pool; does not wait for Redis."""
        await self.manager.start()
        await self.pool.start()
        self._background(self._reverify_loop(), "socket verification")

    async def stop(self) -> None:
        """Close every socket, hand over unsent events, clean the pool."""
        for sid in [sid for sid, _ in self._sockets("")]:
            await self._close(sid)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.manager.stop()
        await self.pool.stop()
        await self.sio.shutdown()

    async def emit_to_user(self, user_id: str, payload: Any) -> None:
        """Send the event `events` to every socket of a user, on every worker."""
        if isinstance(self.manager, (StreamsManager, MemoryManager)):
            self.manager.emit_now("events", payload, f"user:{user_id}")
        else:
            await self.sio.emit("events", payload, room=f"user:{user_id}")

    async def disconnect_token(self, jti: str) -> None:
        """Close the sockets that came with a token, on every worker."""
        await self._close_room(f"token:{jti}")
        await self.manager.control({"action": "close_room", "room": f"token:{jti}"})

    @property
    def sockets(self) -> int:
        """Sockets of this worker."""
        return len(self._sockets(""))

    # --- events ----------------------------------------------------------------------------

    async def _on_connect(self, sid: str, _environ: dict[str, Any], auth: Any = None) -> None:
        self._background(self._expel(sid), "anonymous socket")
        token = auth.get("token") if isinstance(auth, dict) else None
        if token:
            await self._admit(sid, str(token))

    async def _on_user_join(self, sid: str, data: Any = None) -> dict[str, str] | None:
        auth = data.get("auth") if isinstance(data, dict) else None
        token = auth.get("token") if isinstance(auth, dict) else None
        identity = await self._admit(sid, str(token)) if token else None
        return {"id": identity.user.id, "name": identity.user.name} if identity else None

    async def _on_heartbeat(self, sid: str, _data: Any = None) -> None:
        self.pool.touch(sid)

    async def _on_disconnect(self, sid: str, _reason: str = "") -> None:
        self._tokens.pop(sid, None)
        self.pool.remove(sid)

    async def _admit(self, sid: str, token: str) -> SocketIdentity | None:
        """Let a socket into its user's room; None when the token is not valid, or nobody knows."""
        try:
            identity = await self._authenticate(token)
        except Exception as error:  # the database: the client will join again
            log.warning("socket not verified: %s", error)
            return None
        if identity is None or not self.manager.is_connected(sid, "/"):
            return None
        user = identity.user
        self._tokens[sid] = token
        await self.sio.enter_room(sid, f"user:{user.id}")
        await self.sio.enter_room(sid, f"token:{identity.claims.jti}")
        self.pool.add(sid, user.id, user.name, user.role)
        return identity

    # --- closing ---------------------------------------------------------------------------

    async def _expel(self, sid: str) -> None:
        await asyncio.sleep(ANONYMOUS_S)
        if sid not in self._tokens:
            await self._close(sid)

    async def _close(self, sid: str) -> None:
        try:
            await self.sio.disconnect(sid, ignore_queue=True)
        except Exception:  # gone meanwhile
            log.debug("socket %s was gone", sid, exc_info=True)

    async def _close_room(self, room: str) -> None:
        for sid, _ in self._sockets(room):
            await self._close(sid)

    async def _on_control(self, message: dict[str, Any]) -> None:
        if message.get("action") == "close_room":
            await self._close_room(str(message["room"]))

    async def _reverify_loop(self) -> None:
        """Close sockets whose token expired or was revoked unheard; a failing check closes none."""
        while True:
            await asyncio.sleep(REVERIFY_S)
            for sid, token in list(self._tokens.items()):
                try:
                    identity = await self._authenticate(token)
                except Exception as error:  # the database: nobody knows, so nobody is closed
                    log.warning("sockets not verified: %s", error)
                    break
                if identity is None and self._tokens.get(sid) == token:
                    await self._close(sid)

    def _sockets(self, room: str) -> list[tuple[str, str]]:
        members = self.manager.rooms.get("/", {}).get(room or None)
        return list(members.items()) if members else []

    def _background(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
