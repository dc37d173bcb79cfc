"""Calls to browsers: on this worker, on another one, and to sessions that go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from bus_servers import serving, until
from socket_workers import KEYS, Worker, running

from runtime.realtime.calls import GONE, TIMED_OUT, CallFailed, SessionGone


@pytest.fixture(params=["two workers", "alone"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Give the worker that calls and the one that has the socket; they may be the same."""
    async with serving(tmp_path) as redis:
        alone = request.param == "alone"
        environ = {} if alone else {"REDIS_URL": redis.url}
        async with running(tmp_path, environ, 2 - alone) as found:
            yield found[0], found[-1]


async def answering(worker: Worker, token: str) -> tuple[Any, str, list[Any]]:
    """Return a client that answers `ask` with what it heard, its sid, and what it was asked."""
    client, _, _ = await worker.connect(token)
    asked: list[Any] = []

    async def answer(data: Any) -> Any:
        asked.append(data)
        if data == "wait":
            await asyncio.Event().wait()
        return {"heard": data}

    client.on("ask", answer)
    return client, worker.sid(token.split("/")[0]), asked


async def known_to(worker: Worker, sid: str) -> None:
    """Wait until a worker sees a session."""
    await until(lambda: worker.pool.get(sid))


async def fails_with(call: Awaitable[Any], kind: type[CallFailed], text: str) -> None:
    """Require that a call fails, and how."""
    with pytest.raises(kind) as error:
        await call
    assert str(error.value) == text


async def test_the_answer_comes_back(pair: tuple[Worker, Worker]) -> None:
    """The caller gets what the browser acknowledged, whichever worker it is on."""
    caller, owner = pair
    _, sid, _ = await answering(owner, "bob/t")
    await known_to(caller, sid)
    calls = caller.sockets.calls
    assert await calls.call("bob", sid, "ask", {"n": 1}, 5) == {"heard": {"n": 1}}
    answers = await asyncio.gather(*(calls.call_user("bob", "ask", n, 5) for n in range(20)))
    assert answers == [{"heard": n} for n in range(20)]


async def test_calls_to_others_and_to_nobody_are_refused(pair: tuple[Worker, Worker]) -> None:
    """A session must exist and be the user's own."""
    caller, owner = pair
    _, sid, asked = await answering(owner, "bob/t")
    await known_to(caller, sid)
    await fails_with(caller.sockets.calls.call("ann", sid, "ask", 1), SessionGone, GONE)
    await fails_with(caller.sockets.calls.call("bob", "nobody", "ask", 1), SessionGone, GONE)
    await fails_with(caller.sockets.calls.call_user("eve", "ask", 1), SessionGone, GONE)
    assert asked == []


async def test_a_call_ends_when_its_session_goes(pair: tuple[Worker, Worker]) -> None:
    """The default deadline is a minute; the loss of the session is told at once."""
    caller, owner = pair
    client, sid, asked = await answering(owner, "bob/t")
    await known_to(caller, sid)
    call = asyncio.create_task(caller.sockets.calls.call("bob", sid, "ask", "wait"))
    await until(lambda: asked == ["wait"])
    await client.disconnect()
    await asyncio.wait({call}, timeout=8)
    await fails_with(call, SessionGone, GONE)


async def test_a_silent_browser_ends_at_the_deadline(pair: tuple[Worker, Worker]) -> None:
    """The text is one that a user can be shown."""
    caller, owner = pair
    _, sid, _ = await answering(owner, "bob/t")
    await known_to(caller, sid)
    call = caller.sockets.calls.call("bob", sid, "ask", "wait", timeout_s=0.3)
    await fails_with(call, CallFailed, TIMED_OUT)
    assert not caller.sockets.calls._waiting
    await until(lambda: not owner.sockets.calls._here)


async def test_the_next_session_of_the_user_answers(pair: tuple[Worker, Worker]) -> None:
    """When the session that was asked goes, the user's next one is asked."""
    caller, owner = pair
    first, first_sid, asked = await answering(caller, "bob/t1")
    second, _, _ = await owner.connect("bob/t2")
    second.on("ask", lambda data: {"second": data})
    await until(lambda: _sessions(caller, 2))
    caller.pool._local[first_sid].last_seen_at += 100  # the most recent
    call = asyncio.create_task(caller.sockets.calls.call_user("bob", "ask", "wait", 8))
    await until(lambda: asked == ["wait"])
    await first.disconnect()
    assert await call == {"second": "wait"}


async def _sessions(worker: Worker, count: int) -> bool:
    return len(await worker.pool.members("user:bob")) == count


async def test_calls_to_a_dead_worker_fail_when_it_is_buried(tmp_path: Path) -> None:
    """A worker that dies takes its answers along; the leader tells, nobody polls."""
    async with serving(tmp_path) as redis:
        environ = {
            "REDIS_URL": redis.url,
            "INSTANCE_LEASE": "1",
            "WEBSOCKET_REDIS_LOCK_TIMEOUT": "1",
        }
        async with running(tmp_path, environ, 3) as (caller, dead, third):
            _, sid, asked = await answering(dead, "bob/t")
            await known_to(caller, sid)
            call = asyncio.create_task(caller.sockets.calls.call("bob", sid, "ask", "wait"))
            await until(lambda: asked == ["wait"])
            await dead.crash()
            await asyncio.wait({call}, timeout=12)
            await fails_with(call, SessionGone, GONE)
            await until(lambda: _forgotten(third, sid))
            assert await redis.call("EXISTS", KEYS.session_pool_instance("w1")) in (0, False)


async def _forgotten(worker: Worker, sid: str) -> bool:
    return await worker.pool.get(sid) is None
