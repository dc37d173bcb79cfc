"""Handshakes take turns: few at once, in order, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from runtime.realtime import turnstile as module
from runtime.realtime.turnstile import Turnstile, WaitedTooLong


async def wait_in(line: Turnstile, entered: list[int], number: int, leave: asyncio.Event) -> None:
    """Take a turn that lasts until `leave`."""
    async with line.turn():
        entered.append(number)
        await leave.wait()


async def test_so_many_are_inside_and_the_others_follow_in_order() -> None:
    """Of five two are inside; each that leaves lets in the one that came first."""
    line, entered = Turnstile(2), []
    leave = [asyncio.Event() for _ in range(5)]
    tasks = [asyncio.create_task(wait_in(line, entered, n, leave[n])) for n in range(5)]
    await asyncio.sleep(0)
    assert (entered, line.waiting) == ([0, 1], 3)
    leave[1].set()
    await tasks[1]
    await asyncio.sleep(0)
    assert (entered, line.waiting) == ([0, 1, 2], 2)
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)
    assert (entered, line.waiting, line.gave_up) == ([0, 1, 2, 3, 4], 0, 0)


async def test_who_waits_too_long_is_told_so_and_takes_no_place() -> None:
    """The one behind the one that gave up has its turn; without a bound nobody gives up."""
    line, entered, leave = Turnstile(1), [], asyncio.Event()
    inside = asyncio.create_task(wait_in(line, entered, 0, leave))
    await asyncio.sleep(0)
    with pytest.raises(WaitedTooLong):
        async with line.turn(within_s=0):
            entered.append(1)
    assert (line.gave_up, line.waiting) == (1, 0)

    async def patient() -> None:
        async with line.turn():
            entered.append(2)

    behind = asyncio.create_task(patient())
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(inside, behind)
    assert entered == [0, 2]


async def test_a_slow_line_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late is a line whose first has waited for long; an empty one never is."""
    monkeypatch.setattr(module, "LATE_S", -1.0)
    line, leave = Turnstile(1), asyncio.Event()
    inside = asyncio.create_task(wait_in(line, [], 0, leave))
    await asyncio.sleep(0)
    assert not line.late
    behind = asyncio.create_task(wait_in(line, [], 1, leave))
    await asyncio.sleep(0)
    assert line.late
    leave.set()
    await asyncio.gather(inside, behind)
    assert not line.late


async def test_a_failure_inside_gives_the_place_back() -> None:
    """Whatever ends a turn, the next one comes."""
    line = Turnstile(1)
    with pytest.raises(ValueError, match="broken"):
        async with line.turn():
            raise ValueError("broken")
    async with line.turn(within_s=0.5):
        pass
