"""Socket.IO servers with real sockets, two workers, real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import socketio
import uvicorn
from bus_servers import HOST, Server, free_port, serving, topology_of, until

from runtime.database import Database
from runtime.memberships import Memberships
from runtime.realtime import admission
from runtime.realtime.server import SocketServer, create_manager, create_socket_server
from runtime.realtime.session_pool import SessionPool
from runtime.redis.client import RedisClient
from runtime.redis.inbox import Gap
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.supervision import Supervisor

KEYS = Keys("test")


@dataclass(frozen=True)
class User:
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

    user: User
    claims: Claims


async def authenticate(token: str) -> Identity | None:
    """Accept `user/jti`."""
    user, slash, jti = token.partition("/")
    return Identity(User(user, user.title()), Claims(jti)) if slash else None


class Worker:
    """One worker: a Socket.IO server on a port of its own."""

    def __init__(self, url: str, instance: str, database: Path) -> None:
        settings = load_settings({"REDIS_URL": url, "INSTANCE_ID": instance})
        self.topology = topology_of(settings)
        self.client = RedisClient(self.topology, settings)
        self.pool = SessionPool(self.client, KEYS, instance)
        self.manager = create_manager(settings, self.topology, KEYS)
        self.supervisor = Supervisor()
        self.database = Database(f"sqlite:///{database}")
        self.sockets: SocketServer = create_socket_server(
            settings,
            self.manager,
            authenticate,
            self.pool,
            keys=KEYS,
            memberships=Memberships(self.database),
            supervisor=self.supervisor,
        )
        self.port = free_port()
        config = uvicorn.Config(
            self.sockets.asgi, host=HOST, port=self.port, log_level="error", lifespan="off"
        )
        self._http = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve."""
        await self.database.open()
        await self.sockets.start()
        self._task = asyncio.create_task(self._http._serve())
        await until(lambda: self._http.started)

    async def stop(self) -> None:
        """End everything."""
        await self.sockets.stop()
        await self.supervisor.stop()
        self._http.should_exit = True
        assert self._task
        await self._task
        await self.client.close()
        await self.topology.close()
        await self.database.close()

    async def connect(self, token: str) -> tuple[socketio.AsyncClient, list[Any], Any]:
        """Return a joined client, what it hears, and the answer to user-join."""
        client = socketio.AsyncClient(reconnection=False)
        heard: list[Any] = []
        client.on("events", heard.append)
        await client.connect(
            f"http://{HOST}:{self.port}",
            auth={"token": token},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
        )
        return client, heard, await client.call("user-join", {"auth": {"token": token}}, timeout=3)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """Give a server."""
    async with serving(tmp_path) as server:
        yield server


@pytest.fixture
async def workers(redis: Server, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    """Give two workers that hear each other."""
    workers = [Worker(redis.url, f"w{n}", tmp_path / "runtime.db") for n in range(2)]
    for worker in workers:
        await worker.start()
    await until(lambda: all(worker.manager.caught_up for worker in workers))
    yield workers
    for worker in workers:
        await worker.stop()


def event(n: int) -> dict[str, Any]:
    """Return a payload as the application sends it."""
    return {"chat_id": "c", "message_id": "m", "data": {"type": "x", "data": n}}


async def test_events_cross_workers_once_and_in_order(workers: list[Worker]) -> None:
    """A user's sockets on both workers get each event once, and another user's none."""
    here, heard_here, joined = await workers[0].connect("ann/t1")
    there, heard_there, _ = await workers[1].connect("ann/t2")
    other, heard_other, _ = await workers[1].connect("bob/t3")
    assert joined == {"id": "ann", "name": "Ann"}
    expected = [event(n) for n in range(200)]
    for payload in expected:
        await workers[0].sockets.emit_to_user("ann", payload)
    await until(lambda: len(heard_there) == len(heard_here) == 200)
    assert heard_here == heard_there == expected
    assert heard_other == []
    for client in (here, there, other):
        await client.disconnect()


async def test_an_outage_delays_events_and_loses_none(workers: list[Worker], redis: Server) -> None:
    """What is emitted while Redis is away arrives afterwards; joining needs no Redis."""
    there, heard, _ = await workers[1].connect("ann/t2")
    redis.kill()
    await until(lambda: not workers[0].manager.caught_up)
    for n in range(50):
        await workers[0].sockets.emit_to_user("ann", event(n))
    late, _, joined = await workers[0].connect("eve/t9")
    assert joined == {"id": "eve", "name": "Eve"}
    redis.start()
    await until(lambda: len(heard) == 50)
    assert heard == [event(n) for n in range(50)]
    for client in (there, late):
        await client.disconnect()


async def test_a_token_is_disconnected_everywhere(workers: list[Worker]) -> None:
    """Signing out closes the sockets of that token on both workers, and no other."""
    clients = [
        (await workers[n].connect(token))[0]
        for n, token in [(0, "ann/gone"), (1, "ann/gone"), (1, "ann/kept")]
    ]
    await workers[0].sockets.disconnect_token("gone")
    await until(lambda: [client.connected for client in clients] == [False, False, True])
    await clients[2].disconnect()


async def test_the_pool_follows_sockets_and_lost_data(workers: list[Worker], redis: Server) -> None:
    """The hash holds who is connected, also after Redis lost it, and nothing when they left."""
    client, _, _ = await workers[0].connect("ann/t1")

    async def pool() -> list[dict[str, Any]]:
        fields = await redis.call("HVALS", KEYS.session_pool)
        return [orjson.loads(text) for text in fields]

    await until(pool)
    (record,) = await pool()
    assert record.pop("last_seen_at") > 0
    assert record.pop("rooms") == []
    assert record == {"id": "ann", "name": "Ann", "role": "user", "instance": "w0"}
    await redis.call("FLUSHALL")
    await client.emit("heartbeat", {})
    await until(pool)
    await client.disconnect()
    await until(lambda: _is_empty(pool))


async def _is_empty(pool: Callable[[], Any]) -> bool:
    return await pool() == []


async def test_lost_events_are_told(workers: list[Worker]) -> None:
    """When a gap cannot be closed, every socket of the worker is told to resync."""
    client, heard, _ = await workers[0].connect("ann/t1")
    workers[0].manager._on_gap(Gap(b"w1", 3, 9))
    await until(lambda: heard == [{"data": {"type": "resync"}}])
    assert workers[0].manager.status()["resync_hints"] == 1
    await client.disconnect()


async def test_anonymous_sockets_are_closed(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket with a bad token connects, joins nothing, and is closed after a while."""
    monkeypatch.setattr(admission, "ANONYMOUS_S", 0.1)
    client, _, joined = await workers[0].connect("nonsense")
    assert joined is None
    await until(lambda: not client.connected)
