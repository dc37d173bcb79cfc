"""Deadlines: silence ends a call, a pause of this process does not."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from runtime.deadline import Deadline


async def _answer_after_a_pause(deadline: Deadline) -> bytes:
    """Stand still over the deadline; the answer comes meanwhile, and the loop sees both at once."""
    near, far = socket.socketpair()

    def pause() -> None:
        time.sleep(0.3)
        far.send(b"+")

    reader, writer = await asyncio.open_connection(sock=near)
    try:
        async with deadline:
            asyncio.get_running_loop().call_soon(pause)
            return await reader.read(1)
    finally:
        far.close()
        writer.close()
        await writer.wait_closed()


async def test_an_answer_that_came_during_a_pause_counts() -> None:
    """The timer is overdue and the answer is there: the answer wins."""
    assert await _answer_after_a_pause(Deadline(0.05)) == b"+"


async def test_a_plain_timeout_would_lose_it() -> None:
    """Why there is a deadline of our own at all."""
    with pytest.raises(TimeoutError):
        await _answer_after_a_pause(asyncio.timeout(0.05))  # type: ignore[arg-type]  # same protocol


@pytest.mark.parametrize("pause", [0.0, 0.3])
async def test_silence_ends_at_the_deadline(pause: float) -> None:
    """With a pause too: the grace is for what came, and there is one."""

    async def silence() -> None:
        async with Deadline(0.05):
            asyncio.get_running_loop().call_soon(time.sleep, pause)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await silence()


async def test_a_deadline_that_is_over_already_ends_the_call() -> None:
    """A retry may have no time left."""
    with pytest.raises(TimeoutError):
        async with Deadline(-1.0):
            await asyncio.Event().wait()


async def test_who_is_cancelled_by_another_is_cancelled() -> None:
    """A hang-up of the client is no timeout."""

    async def call() -> None:
        async with Deadline(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
