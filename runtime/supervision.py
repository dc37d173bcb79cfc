"""Background loops that cannot die silently: restarted, counted, visible in /ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
STOP_DEADLINE_S = 3.0


class Loop:
    """One supervised loop and what is known about it.

    `silent_s`: when its last success is older than this many seconds, the worker is not ready;
    None: readiness does not depend on it.
    """

    def __init__(self, name: str, silent_s: float | None = None) -> None:
        self.name = name
        self.silent_s = silent_s
        self.restarts = 0
        self.error = ""
        self.last_success = time.monotonic()

    def succeeded(self) -> None:
        """Note that one round of the loop did what it is for."""
        self.last_success = time.monotonic()

    @property
    def age(self) -> float:
        """Return the age of the last success in seconds."""
        return time.monotonic() - self.last_success

    @property
    def is_silent(self) -> bool:
        """Whether its last success is too long ago."""
        return self.silent_s is not None and self.age > self.silent_s

    @property
    def status(self) -> dict[str, Any]:
        """Return restarts, the age of the last success in seconds, and the last error."""
        return {"restarts": self.restarts, "age_s": round(self.age, 3), "error": self.error}


class Supervisor:
    """Starts loops, restarts those that fail, and ends them all, awaited."""

    def __init__(self) -> None:
        self.loops: dict[str, Loop] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self,
        name: str,
        body: Callable[[Loop], Awaitable[None]],
        silent_s: float | None = None,
    ) -> Loop:
        """Keep `body(loop)` running until `stop`; see Loop for `silent_s`."""
        loop = self.loops[name] = Loop(name, silent_s)
        self._add(asyncio.create_task(self._keep(loop, body), name=name))
        return loop

    def spawn(self, work: Awaitable[Any], name: str) -> None:
        """Run something once in the background; an error is logged, never lost."""
        self._add(asyncio.create_task(self._once(work, name), name=name))

    async def stop(self) -> None:
        """Cancel everything and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_DEADLINE_S)

    def _add(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, loop: Loop, body: Callable[[Loop], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await body(loop)
                loop.error = "ended"
            except asyncio.CancelledError:
                if _asked_to_end():
                    raise
                loop.error = "cancelled by nobody"
                log.error("loop %s got a cancellation that was not its own", loop.name)
            except Exception as error:  # whatever it was, the loop must go on
                loop.error = f"{type(error).__name__}: {error}"
                log.exception("loop %s failed; it is started again", loop.name)
            loop.restarts += 1
            long_ago = time.monotonic() - began > 10 * LONGEST_PAUSE_S
            pause = FIRST_PAUSE_S if long_ago else min(pause * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _once(self, work: Awaitable[Any], name: str) -> None:
        try:
            await work
        except Exception:  # nobody awaits it, so the log is the only place
            log.exception("%s failed", name)


def _asked_to_end() -> bool:
    """Tell whether the current task was cancelled, and not just something that it waited for.

    A future that others cancel raises the same error in whoever awaits it: such a stray one has
    made listeners of redis-py and python-socketio deaf for good.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def wait_until(event: asyncio.Event, period: float) -> bool:
    """Return True when the event was set within `period` seconds, which clears it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(period):
            await event.wait()
    was_set = event.is_set()
    event.clear()
    return was_set
