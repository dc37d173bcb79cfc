"""wait_for returns what it waited for, or says label, time, tries and the last error."""

from __future__ import annotations

import asyncio

import pytest

from harness.waiting import WaitTimeout, beside, wait_for, wait_for_sync


async def test_returns_the_first_truthy_value() -> None:
    """The value itself comes back, so a wait can also fetch."""
    values = iter([None, 0, "ready"])
    assert await wait_for(lambda: next(values), 1, "a value") == "ready"


async def test_awaits_coroutine_predicates() -> None:
    """A predicate may be a coroutine function."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert await wait_for(answer, 1, "an answer") == 7


async def test_the_timeout_names_label_and_chains_the_last_error() -> None:
    """A predicate that always fails shows its own error in the timeout."""

    def refuse() -> bool:
        raise ConnectionRefusedError("port 1")

    with pytest.raises(WaitTimeout, match=r"the port: not so after .*port 1") as caught:
        await wait_for(refuse, 0.05, "the port")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_predicate_that_hangs_is_cancelled_at_the_deadline() -> None:
    """One call that never returns cannot outlive the deadline."""
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(WaitTimeout):
        await wait_for(hang, 0.05, "for ever")
    assert cancelled.is_set()


def test_the_synchronous_twin_does_the_same() -> None:
    """wait_for_sync is for threads and greenlets."""
    values = iter([False, "yes"])
    assert wait_for_sync(lambda: next(values), 1, "a value") == "yes"
    with pytest.raises(WaitTimeout, match="never"):
        wait_for_sync(lambda: False, 0.02, "never")


async def test_what_runs_beside_ends_with_the_body() -> None:
    """It is cancelled, which is no error."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with beside(work()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_a_failure_beside_ends_the_body_and_is_the_error_that_leaves() -> None:
    """The body's own cleaning up is done first, and no group is to be unpacked."""
    cleaned = False

    async def fail() -> None:
        raise OSError(28, "No space left on device")

    async def body() -> None:
        nonlocal cleaned
        async with beside(fail()):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned = True

    with pytest.raises(OSError, match="No space"):
        await body()
    assert cleaned


async def test_an_error_of_the_body_leaves_as_it_is() -> None:
    """Also out of a group of the body's own."""

    async def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with beside(asyncio.Event().wait()), asyncio.TaskGroup() as group:  # type: ignore[arg-type]  # never ends
            group.create_task(refuse())
