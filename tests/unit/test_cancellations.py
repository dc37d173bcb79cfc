"""A task that was stopped ends, also when what it waited for comes in the same moment."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import runtime
from runtime.redis.breaker import Breaker
from runtime.redis.factory import topology_from
from runtime.settings import load_settings
from runtime.storage.lanes import Call, Lane, Patience

TURNS = range(6)  # of the loop, between what comes and the cancellation
LONG_S = 30.0
Waiting = tuple[Callable[[], Awaitable[object]], Callable[[], object]]  # what waits, what ends it


async def plain() -> Waiting:
    """Wait as `asyncio.wait_for` does."""
    came = asyncio.Event()
    return lambda: asyncio.wait_for(came.wait(), LONG_S), came.set


async def transaction() -> Waiting:
    """Wait for the database."""
    lane, come = Lane(1, "test", Patience(LONG_S, LONG_S)), threading.Event()

    def comes() -> None:
        come.set()
        lane.finish()  # its thread has told the loop

    return lambda: lane.run(Call(), lambda: come.wait(LONG_S)), comes


async def breaker() -> Waiting:
    """Wait for Redis to be back."""
    back = asyncio.Event()

    async def probe() -> None:
        await back.wait()

    breaker = Breaker(probe, period=0)
    breaker.open("a test")
    return breaker.check, breaker._closed.set


async def primary() -> Waiting:
    """Wait for the first word on where the primary is."""
    topology = topology_from(load_settings({"REDIS_URL": "redis://h:7"}))
    assert topology is not None
    topology._known.clear()
    topology.start = lambda: None  # type: ignore[method-assign]  # nobody else tells it
    return lambda: topology.locate(""), topology._known.set


async def ends(waiting: Waiting, turns: int) -> bool:
    """Tell whether a task ends that is cancelled `turns` after what it waits for has come."""
    wait, come = waiting

    async def work() -> None:
        await wait()
        await asyncio.Event().wait()  # the next piece of an endless answer

    task = asyncio.create_task(work())
    for _ in TURNS:
        await asyncio.sleep(0)
    come()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    for _ in TURNS:
        await asyncio.sleep(0)
    ended = task.cancelled()
    task.cancel()
    await asyncio.wait({task})
    return ended


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", [transaction, breaker, primary])
async def test_a_cancellation_beside_the_answer_counts(
    kind: Callable[[], Awaitable[Waiting]], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However close the two are together."""
    monkeypatch.setattr("runtime.redis.breaker.GRACE_S", LONG_S)  # also on a slow machine
    assert await ends(await kind(), turns)


@pytest.mark.skipif("sys.version_info >= (3, 12)", reason="Python 3.12 has mended it")
async def test_the_librarys_own_loses_it() -> None:
    """Why the runtime has a deadline of its own: https://github.com/python/cpython/issues/86296."""
    assert not all([await ends(await plain(), turns) for turns in TURNS])


def test_the_runtime_does_not_use_it() -> None:
    """A new one would be found months later, by a user whose stop did nothing."""
    for path in Path(runtime.__file__).parent.rglob("*.py"):
        names = {
            n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)
        }
        assert "wait_for" not in names, f"{path}: use runtime.deadline.Deadline"
