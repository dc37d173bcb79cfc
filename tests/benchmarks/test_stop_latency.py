"""A stop, from its request until the provider sees its stream closed.

Target: p50 ≤ 6 ms when another worker owns the task. The benchmark's median is the p50; the time
of the HTTP answer, which may come later, is not part of it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.figures import Figures
from tests.integration.app_deployment import Deployment, User

ROUNDS = 100
TOGETHER = 20  # stops whose median is one value of the figure
WORKERS = {0: "its owner", 1: "another worker"}
TOKENS = 100_000
NAMES = itertools.count()


class Stops:
    """Two workers and a Redis; every round stops a stream that worker 0 runs."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self._app = Deployment(folder)
        self.runner.run(self._app.start())
        self._user: User = self.runner.run(self._app.user())
        self._answer: asyncio.Task[tuple[int, dict[str, Any]]] | None = None
        self.states: list[str] = []

    def close(self) -> None:
        """End everything."""
        self.runner.run(self._settle())
        self.runner.run(self._app.stop())
        self.runner.close()

    def begin(self) -> None:
        """Start the next stream."""
        self.runner.run(self._begin())

    def stop(self, worker: int) -> str:
        """Ask a worker to stop it; return once the provider saw the end."""
        return self.runner.run(self._stop(worker))

    async def _begin(self) -> None:
        await self._settle()
        self._name = f"stop-{next(NAMES)}"
        _, self._task = await self._user.chat(self._name, 0, TOKENS)

    async def _stop(self, worker: int) -> str:
        path = f"/api/tasks/stop/{self._task}"
        self._answer = asyncio.create_task(self._user.call("POST", path, worker))
        return await self._app.provider.next_close()

    async def _settle(self) -> None:
        if self._answer is not None:
            _, body = await self._answer
            self.states.append(body["state"])


@pytest.fixture
def stops(tmp_path: Path) -> Iterator[Stops]:
    """Yield two workers."""
    found = Stops(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("worker", [0, 1], ids=["owner", "other-worker"])
def test_stop_closes_the_stream(
    benchmark: Any, figures: Figures, stops: Stops, worker: int
) -> None:
    """The stream that ends is the one that was asked for; the owner confirms at once."""
    ended = benchmark.pedantic(
        stops.stop, args=(worker,), setup=stops.begin, rounds=ROUNDS, warmup_rounds=5
    )
    assert ended == stops._name
    assert set(stops.states) <= {"cancelled", "requested"}
    took = [1000 * seconds for seconds in benchmark.stats.stats.data]
    groups = [took[n : n + TOGETHER] for n in range(0, len(took), TOGETHER)]
    name = f"stop at {WORKERS[worker]} until the stream is closed, p50"
    figures.note(name, [statistics.median(group) for group in groups], "ms", at_most=6.0)
