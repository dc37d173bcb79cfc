"""The only way to wait for something: a predicate, a deadline and a label. No sleeps elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from harness.clock import monotonic

T = TypeVar("T")

FIRST_PERIOD = 0.005
LONGEST_PERIOD = 0.1
CANCEL_AGAIN_S = 0.25


class WaitTimeout(Exception):
    """The deadline passed; says label, elapsed seconds, tries and the last error or value."""


def _timeout(label: str, started: float, tries: int, last: object) -> WaitTimeout:
    elapsed = monotonic() - started
    return WaitTimeout(f"{label}: not so after {elapsed:.1f} s ({tries} tries); last: {last!r}")


async def wait_for(predicate: Callable[[], T | Awaitable[T]], deadline: float, label: str) -> T:
    """Return the predicate's first truthy value; raise WaitTimeout after `deadline` seconds.

    The predicate may be a coroutine function. An exception that it raises counts as "not yet"
    and is chained to the timeout. A predicate call that outlives the deadline is cancelled.
    """
    started, tries = monotonic(), 0
    last: object = None
    cause: Exception | None = None
    period = FIRST_PERIOD
    while (left := deadline - (monotonic() - started)) > 0:
        tries += 1
        try:
            result = predicate()
            if inspect.isawaitable(result):
                result = await asyncio.wait_for(result, left)
            if result:
                return result  # type: ignore[return-value]  # awaited above
            last = result
        except Exception as error:  # any failure means "not yet"
            last, cause = error, error
        await asyncio.sleep(min(period, max(left, 0)))
        period = min(period * 1.5, LONGEST_PERIOD)
    raise _timeout(label, started, tries, last) from cause


def wait_for_sync(predicate: Callable[[], T], deadline: float, label: str) -> T:
    """Do the same for threads and greenlets (gevent patches `time.sleep`)."""
    started, tries = monotonic(), 0
    last: object = None
    cause: Exception | None = None
    period = FIRST_PERIOD
    while monotonic() - started < deadline:
        tries += 1
        try:
            if result := predicate():
                return result
            last = result
        except Exception as error:  # any failure means "not yet"
            last, cause = error, error
        time.sleep(period)
        period = min(period * 1.5, LONGEST_PERIOD)
    raise _timeout(label, started, tries, last) from cause


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` as long as the body runs; when it fails, the body is cancelled.

    What leaves is one error, the first, as it would without a task group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all of them have ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11 swallows a cancellation that comes
    together with its result, and a task that loops would go on for ever.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
