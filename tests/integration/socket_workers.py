"""Socket.IO servers of several workers in one process, with real sockets and a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import socketio
import uvicorn
from bus_servers import HOST, free_port, until

from runtime.realtime.server import SocketServer, create_manager, create_socket_server
from runtime.realtime.session_pool import SessionPool
from runtime.redis.client import RedisClient
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.storage.database import Database, User
from runtime.storage.memberships import Memberships
from runtime.supervision import Supervisor

KEYS = Keys("test")
ROLES = {"root": "admin"}


@dataclass(frozen=True)
class Account:
    """An account."""

    id: str
    name: str
    role: str = "user"


@dataclass(frozen=True)
class Claims:
    """A token's claims."""

    jti: str


@dataclass(frozen=True)
class Identity:
    """Who a token is for."""

    user: Account
    claims: Claims


class Tokens:
    """Accepts `user/jti` unless the jti was revoked; `broken` as when the database is away."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.broken = False
        self.asked = 0

    async def verify(self, token: str) -> Identity | None:
        """Return who the token is for."""
        self.asked += 1
        if self.broken:
            raise OSError("no database")
        user, slash, jti = token.partition("/")
        if not slash or jti in self.revoked:
            return None
        return Identity(Account(user, user.title(), ROLES.get(user, "user")), Claims(jti))


class Worker:
    """One worker: a Socket.IO server on a port of its own. Without a Redis URL it is alone."""

    def __init__(self, environ: dict[str, str], instance: str, database: Path) -> None:
        self.settings = settings = load_settings({**environ, "INSTANCE_ID": instance})
        self.topology = topology_from(settings)
        self.client = RedisClient(self.topology, settings) if self.topology else None
        self.pool = SessionPool(
            self.client,
            KEYS,
            instance,
            lease_s=settings.instance_lease,
            timeout_s=settings.session_pool_timeout,
        )
        self.manager = create_manager(settings, self.topology, KEYS, settings.instance_id)
        self.supervisor = Supervisor()
        self.database = Database(f"sqlite:///{database}")
        self.memberships = Memberships(self.database)
        self.tokens = Tokens()
        self.sockets: SocketServer = create_socket_server(
            settings,
            self.manager,
            self.tokens.verify,
            self.pool,
            keys=KEYS,
            memberships=self.memberships,
            supervisor=self.supervisor,
        )
        self.port = free_port()
        config = uvicorn.Config(
            self.sockets.asgi, host=HOST, port=self.port, log_level="error", lifespan="off"
        )
        self._http = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self._clients: list[socketio.AsyncClient] = []

    async def start(self) -> None:
        """Serve."""
        await self.database.open()
        if self.topology:
            self.topology.start()
        await self.sockets.start()
        self._task = asyncio.create_task(self._http._serve())
        await until(lambda: self._http.started)

    async def stop(self) -> None:
        """End everything."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                await client.shutdown()
            if client.eio.http is not None:  # python-engineio leaves it open when refused
                await client.eio.http.close()
        await self.sockets.stop()
        await self.supervisor.stop()
        await self._end()

    async def crash(self) -> None:
        """Go without a word to anybody: no record is removed, no lease released."""
        await self.supervisor.stop()
        await self.manager.stop()
        await self._end()

    async def _end(self) -> None:
        self._http.should_exit = self._http.force_exit = True
        if self._task:
            await self._task
        if self.client and self.topology:
            await self.client.close()
            await self.topology.close()
        await self.database.close()

    async def connect(self, token: str) -> tuple[socketio.AsyncClient, list[Any], Any]:
        """Return a joined client, the `events` that it hears, and the answer to user-join."""
        client = socketio.AsyncClient(reconnection=False)
        heard: list[Any] = []
        client.on("events", heard.append)
        self._clients.append(client)
        await client.connect(
            f"http://{HOST}:{self.port}",
            auth={"token": token},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
        )
        return client, heard, await client.call("user-join", {"auth": {"token": token}}, timeout=3)

    def sid(self, user: str) -> str:
        """Return the id of a user's only socket here."""
        (found,) = self.pool.local(f"user:{user}")
        return found


@asynccontextmanager
async def running(
    folder: Path, environ: dict[str, str], count: int = 2
) -> AsyncIterator[list[Worker]]:
    """Give workers that hear each other, over one database with accounts ann, bob and root."""
    workers = [Worker(environ, f"w{n}", folder / "runtime.db") for n in range(count)]
    try:
        for worker in workers:
            await worker.start()
        for name in ("ann", "bob", "root"):
            account = User(name, f"{name}@x.example", name.title(), ROLES.get(name, "user"))
            await workers[0].database.add_user(account)
        await until(lambda: all(worker.manager.caught_up for worker in workers))
        yield workers
    finally:
        for worker in workers:
            await worker.stop()
