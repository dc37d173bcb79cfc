"""Sockets when something around them fails: hooks, messages, the database, and strangers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import socketio
from bus_servers import HOST, Server, serving, until
from socket_workers import KEYS, Worker, running

from runtime.realtime import admission, identities
from runtime.realtime import server as server_module


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """Give a server."""
    async with serving(tmp_path) as server:
        yield server


@pytest.fixture
async def workers(redis: Server, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    """Give two workers that hear each other, with room for two strangers."""
    environ = {
        "REDIS_URL": redis.url,
        "WEBSOCKET_MAX_ANONYMOUS": "2",
        "CORS_ALLOW_ORIGIN": "https://a.example;https://b.example",
    }
    async with running(tmp_path, environ) as workers:
        yield workers


def nothing_left(worker: Worker) -> bool:
    """Tell whether a worker remembers no socket at all."""
    server = worker.sockets
    rooms = any(worker.manager.rooms.get("/", {}).values())
    parts = (server.sio.environ, server.identities, worker.pool, server.sio.eio.sockets)
    return not rooms and not any(len(part) for part in parts)


@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_a_failing_hook_leaks_nothing(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Whatever is told of a socket's end and fails, the socket's rooms and records go."""
    monkeypatch.setattr(server_module, "LEAVE_WITHIN_S", 0.1)

    async def fail(_: str) -> None:
        if trouble == "hangs":
            await asyncio.Event().wait()
        raise RuntimeError("planted")

    told: list[str] = []
    workers[0].sockets.on_leave[:0] = [fail]
    workers[0].sockets.on_leave.append(told.append)
    client, _, _ = await workers[0].connect("ann/t1")
    sid = workers[0].sid("ann")
    await client.disconnect()
    await until(lambda: nothing_left(workers[0]))
    assert told == [sid]


async def test_malformed_messages_do_not_end_the_listening(
    workers: list[Worker], redis: Server
) -> None:
    """Garbage in the event log, of any shape, is skipped; what follows arrives in order."""
    _, heard, _ = await workers[1].connect("ann/t1")
    events = workers[0].manager.events
    payload: dict[str, Any] = {"data": {"type": "x"}}
    control: list[Any] = [7, [], "x", {}, {"method": "control"}, {"method": "emit"}]
    control += [{"method": "control", "message": m} for m in (None, 1, {}, {"action": "call"})]
    control += [{"method": "control", "message": {"action": "enter_room", "users": 5}}]
    for n in range(20):
        for garbage in (b"", b"\xff\xfe", b"{", b"t12", b"t" + b"\xff" * 60, b"2[", b"null"):
            events.publish("user:ann", garbage)
        for message in control:
            events.publish("", orjson.dumps(message))
        await redis.call("XADD", KEYS.events, "*", "strange", "fields")
        await workers[0].sockets.emit_to_user("ann", {**payload, "n": n})
    expected = [{**payload, "n": n} for n in range(20)]
    await until(lambda: [event for event in heard if "n" in event] == expected)


async def test_without_the_database_sockets_stay(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that fails closes nobody; who joins meanwhile is told nothing and may try again."""
    monkeypatch.setattr(identities, "FRESH_S", -1.0)
    client, _, _ = await workers[0].connect("ann/t1")
    workers[0].tokens.broken = True
    await workers[0].sockets.identities.recheck(workers[0].sid("ann"))
    assert await client.call("usage", {"model": "llama"}, timeout=3) is True
    late, _, joined = await workers[0].connect("bob/t2")
    assert joined is None
    workers[0].tokens.broken = False
    again = await late.call("user-join", {"auth": {"token": "bob/t2"}}, timeout=3)
    assert again == {"id": "bob", "name": "Bob"}
    assert client.connected


async def test_strangers_are_bounded_in_number(workers: list[Worker]) -> None:
    """The third stranger is refused at the door; a client that backs off gets in later."""
    strangers = [(await workers[0].connect("nonsense"))[0] for _ in range(2)]
    with pytest.raises(socketio.exceptions.ConnectionError):
        await workers[0].connect("ann/t1")
    assert workers[0].sockets.status()["refused"] == 1
    await strangers[0].disconnect()
    await until(lambda: workers[0].sockets.admission.strangers == 1)
    _, _, joined = await workers[0].connect("ann/t1")
    assert joined == {"id": "ann", "name": "Ann"}
    _, _, joined = await workers[0].connect("bob/t2")
    assert joined == {"id": "bob", "name": "Bob"}


async def test_a_connection_that_says_nothing_is_closed(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport that never speaks Socket.IO is a stranger too."""
    monkeypatch.setattr(admission, "ANONYMOUS_S", 0.1)
    url = f"ws://{HOST}:{workers[0].port}/ws/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        kinds = [message.type async for message in socket]
    assert kinds
    await until(lambda: nothing_left(workers[0]))


async def test_a_herd_is_let_in_piece_by_piece(workers: list[Worker]) -> None:
    """Forty clients that come back at once, where two may wait, all get in by backing off."""
    clients = []
    for n in range(40):
        client = socketio.AsyncClient(
            reconnection_delay=0.05, reconnection_delay_max=0.3, randomization_factor=0.5
        )
        clients.append((client, f"u{n}/t{n}"))

    async def connect(client: socketio.AsyncClient, token: str) -> None:
        await client.connect(
            f"http://{HOST}:{workers[0].port}",
            auth={"token": token},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
            retry=True,
        )

    await asyncio.gather(*(connect(*pair) for pair in clients))
    await until(lambda: len(workers[0].sockets.identities) == 40)
    for client, _ in clients:
        await client.disconnect()


async def test_who_waits_too_long_for_a_turn_is_dropped(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others hold all places nobody is verified and nothing stays; the next try works."""
    monkeypatch.setattr(server_module, "TURN_WITHIN_S", 0.05)
    line = workers[0].sockets.turnstile
    client = socketio.AsyncClient(reconnection=False)
    async with line.turn(), line.turn():
        await client.connect(
            f"http://{HOST}:{workers[0].port}",
            auth={"token": "ann/t1"},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
        )
        await until(lambda: not client.connected)
        await until(lambda: nothing_left(workers[0]))
        assert (workers[0].tokens.asked, line.gave_up, line.waiting) == (0, 1, 0)
    monkeypatch.setattr(server_module, "TURN_WITHIN_S", 5.0)
    _, _, joined = await workers[0].connect("ann/t1")
    assert joined == {"id": "ann", "name": "Ann"}


@pytest.mark.parametrize(
    ("origin", "welcome"), [("https://b.example", True), ("https://c.example", False)]
)
async def test_pages_of_other_origins_get_no_socket(
    workers: list[Worker], origin: str, welcome: bool
) -> None:
    """CORS_ALLOW_ORIGIN lists who may open a WebSocket from a browser."""
    url = f"ws://{HOST}:{workers[0].port}/ws/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(url, headers={"Origin": origin}) as socket:
                opened = (await socket.receive()).type is aiohttp.WSMsgType.TEXT
        except aiohttp.WSServerHandshakeError:
            opened = False
    assert opened is welcome
