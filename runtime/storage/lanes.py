"""Threads that run transactions, and callers who do not wait for them for ever.

A database that hangs (its connections open, no answer) holds every thread that asks it something:
nothing on our side can end that. So callers give up after a while, and once all threads of a lane
are held, new calls are refused at once instead of waiting in line for what will not come.

A caller who gives up before the transaction commits can be sure that nothing happened: the thread
then rolls back, whenever it hears from the database again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

from runtime.deadline import Deadline

T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """The database did not answer; what was asked was not done."""


class DatabaseUncertain(DatabaseUnavailable):
    """The database was lost while it committed; nobody knows whether it did."""


class GivenUp(Exception):
    """Ends a transaction that nobody waits for any more; seen by its thread alone."""


@dataclass(frozen=True)
class Patience:
    """Seconds: for one call, its turn included; until threads without an answer count as held."""

    answer_s: float
    held_s: float


class Call:
    """One transaction on its way. Its caller may give it up until it commits."""

    def __init__(self) -> None:
        self.asked = time.monotonic()
        self._lock = threading.Lock()
        self._given_up = self._commits = False

    def begin(self) -> None:
        """Let a thread take it; raise GivenUp when that is too late."""
        self._go_on()

    def commit(self) -> None:
        """Note that it commits from now on; raise GivenUp when nobody waits for it any more."""
        with self._lock:
            self._go_on()
            self._commits = True

    def _go_on(self) -> None:
        if self._given_up:
            raise GivenUp

    def give_up(self) -> bool:
        """Wait for it no longer; tell whether it is sure that nothing was done."""
        with self._lock:
            self._given_up = True
            return not self._commits

    @property
    def commits(self) -> bool:
        """Tell whether it may have been committed."""
        return self._commits


class Lane:
    """So many threads, each with one transaction at a time; the others wait in line."""

    def __init__(self, threads: int, name: str, patience: Patience) -> None:
        self._threads = threads
        self._patience = patience
        self._executor = ThreadPoolExecutor(threads, name)
        self._running: dict[Call, float] = {}  # and since when

    async def run(self, call: Call, work: Callable[[], T]) -> T:
        """Run `work` in a thread; raise DatabaseUnavailable when it takes too long."""
        if (held := self._held_for()) > self._patience.held_s:
            raise DatabaseUnavailable(f"it has not answered anything for {held:.1f} s")
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, copy_context().run, self._take, call, work)
        try:
            async with Deadline(self._patience.answer_s):
                return await running
        except TimeoutError:
            words = f"no answer within {self._patience.answer_s:g} s"
            raise (DatabaseUnavailable if call.give_up() else DatabaseUncertain)(words) from None

    def _take(self, call: Call, work: Callable[[], T]) -> T:
        call.begin()
        self._running[call] = time.monotonic()
        try:
            return work()
        finally:
            del self._running[call]

    def _held_for(self) -> float:
        """Return for how long all threads have been with what they do now; 0: not all are."""
        since = list(self._running.values())
        return time.monotonic() - max(since) if len(since) >= self._threads else 0.0

    def finish(self) -> None:
        """Take nothing new; return when everything that waits in line was done."""
        self._executor.shutdown(wait=True)

    def cut_short(self) -> None:
        """Forget what waits in line. What runs goes on."""
        self._executor.shutdown(wait=False, cancel_futures=True)
