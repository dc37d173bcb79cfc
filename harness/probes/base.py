"""What a probe is: a task that samples until it is cancelled, and never harms the run."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar

from harness.deploy.model import Deployment
from harness.history.writer import HistoryWriter
from harness.waiting import end_tasks


class Probe(ABC):
    """Watches something of a deployment and records it. A crash of one is a note, not an end."""

    name: ClassVar[str]

    def __init__(self, deployment: Deployment, writer: HistoryWriter) -> None:
        self.deployment = deployment
        self.writer = writer
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make ready and begin to watch; raise when watching is impossible."""
        self.spawn(self.watch())

    @abstractmethod
    async def watch(self) -> None:
        """Sample until cancelled."""

    async def stop(self) -> None:
        """End every task of the probe and free what it holds."""
        await end_tasks([*self._tasks])

    @property
    def pending(self) -> int:
        """Return how many tasks of the probe are under way."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the probe's own loop; its failure becomes a note."""
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        # cancelled before its first step, the task never gets as far as to await the work
        task.add_done_callback(lambda _: work.close())
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # a probe must never end the run
            text = f"probe {self.name} failed: {type(error).__name__}: {error}"
            self.writer.record("note", level="error", text=text)


async def close_quietly(work: Coroutine[Any, Any, Any], seconds: float = 1.0) -> None:
    """Close something at the end of a run, when the other side may be gone or hung."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(work, seconds)
