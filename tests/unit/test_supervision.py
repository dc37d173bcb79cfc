"""Supervised loops end when they are told to, and for no other reason."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import wait_for
from runtime.redis.errors import RedisUnavailable
from runtime.redis.topology import Key, Topology
from runtime.redis.wire import Address, Dial, Wire
from runtime.supervision import Loop, Supervisor

HERE, THERE = ("127.0.0.1", 1), ("127.0.0.1", 2)


class Moving(Topology):
    """A deployment whose only key moves when the test says so, and whose nodes never answer."""

    at: Address = HERE

    def current(self, key: Key) -> Address | None:
        """Return where it is said to be."""
        return self.at

    async def locate(self, key: Key) -> Address:
        """Return the same; nothing is asked."""
        return self.at

    async def dial_node(self, *_: object, **__: object) -> Wire:
        """Dial for ever."""
        return await asyncio.Future[Wire]()

    def moves(self, address: Address) -> None:
        """Have the key elsewhere, and tell those who wait."""
        self.at = address
        self._changed()


async def test_a_stray_cancellation_ends_no_loop() -> None:
    """A future that somebody else cancelled raises CancelledError in whoever awaits it."""
    supervisor, rounds = Supervisor(), list[int]()

    async def body(loop: Loop) -> None:
        rounds.append(1)
        future = asyncio.get_running_loop().create_future()
        if len(rounds) == 1:
            future.cancel()
        loop.succeeded()
        await future

    loop = supervisor.run("listener", body)
    await wait_for(lambda: len(rounds) == 2, 10, "the loop is started again")
    assert (loop.restarts, loop.error) == (1, "cancelled by nobody")
    await supervisor.stop()
    assert not supervisor._tasks


async def test_a_loop_that_is_told_to_end_does() -> None:
    """Stopping is a cancellation too, and that one is its own."""
    supervisor = Supervisor()
    loop = supervisor.run("sleeper", lambda _: asyncio.sleep(3600))
    await asyncio.sleep(0)
    await supervisor.stop()
    assert (supervisor._tasks, loop.restarts) == (set(), 0)


async def test_a_primary_that_goes_and_comes_back_at_once_is_no_cancellation() -> None:
    """Who waits for a connection to it hears of the move: nobody had cancelled the waiting one."""
    topology = Moving(Dial())
    opening = asyncio.create_task(topology.open("key", "test"))
    await wait_for(lambda: bool(topology._listeners), 10, "the dial is under way")
    topology.moves(THERE)
    topology.moves(HERE)
    with pytest.raises(RedisUnavailable, match="the primary moved"):
        await opening
