"""Times of a deployment. Targets: Sentinel 3 s, Cluster 4 s, three workers 3 s, the demo 90 s.

The demo is timed as a user has it: the whole command, after set-up, Python's start included.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.provider import start_provider
from harness.deploy.redis import start_redis
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.scenario import Redis
from harness.targets import get_target
from tests.integration.container_parts import host_named

ROOT = Path(__file__).resolve().parents[2]


class Rounds:
    """Each round has a guardian and a subnet of its own; only the start is timed."""

    def __init__(
        self, topology: str, folder: Path, redis: Redis | None = None, host: str = "processes"
    ) -> None:
        self._topology = topology
        self._redis = redis or Redis()
        self._host = host
        self._folder = folder
        self._numbers = itertools.count()
        self._guardian: Guardian | None = None
        self._runner = asyncio.Runner()
        self._hosts = AsyncExitStack()

    def prepare(self) -> None:
        """End the last round, begin the next."""
        self._runner.run(self._begin())

    def start(self) -> int:
        """Start the topology; return how many servers are healthy."""
        return self._runner.run(self._start())

    def close(self) -> None:
        """End the last round."""
        self._runner.run(self._end())
        self._runner.close()

    async def _begin(self) -> None:
        await self._end()
        self._run = RunFolder.create(self._folder / str(next(self._numbers)))
        lease = Lease.acquire()
        self._guardian = await Guardian.start(self._run, lease)
        self._deployment = Deployment(self._topology, get_target("runtime"), lease.subnet)

    async def _start(self) -> int:
        assert self._guardian is not None
        host = host_named(self._host, self._guardian, self._run)
        self._hosts.push_async_callback(host.close)
        await start_redis(host, self._deployment, self._redis, self._run)
        return len(self._deployment.nodes) + len(self._deployment.sentinels)

    async def _end(self) -> None:
        await self._hosts.aclose()
        if self._guardian is not None:
            await self._guardian.stop()
            self._guardian = None


class WorkerRounds(Rounds):
    """Redis and the provider run already; only the workers are timed."""

    async def _begin(self) -> None:
        await super()._begin()
        await super()._start()
        assert self._guardian is not None
        await start_provider(self._guardian, self._deployment, self._run, RunClock())

    async def _start(self) -> int:
        assert self._guardian is not None
        await start_workers(self._guardian, self._deployment, self._run, RunClock(), 3)
        return len(self._deployment.workers)


@pytest.fixture(params=["sentinel", "cluster"])
def rounds(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rounds]:
    """Yield rounds of a topology."""
    made = Rounds(request.param, tmp_path)
    yield made
    made.close()


def test_healthy_from_nothing(benchmark: Any, rounds: Rounds) -> None:
    """Six servers are healthy, as the flags of each say."""
    assert benchmark.pedantic(rounds.start, setup=rounds.prepare, rounds=5) == 6


def test_three_workers_ready(benchmark: Any, tmp_path: Path) -> None:
    """Three workers of the runtime answer /ready with 200."""
    rounds = WorkerRounds("sentinel", tmp_path)
    try:
        assert benchmark.pedantic(rounds.start, setup=rounds.prepare, rounds=5) == 3
    finally:
        rounds.close()


@pytest.mark.timeout(300)
def test_demo(benchmark: Any, tmp_path: Path) -> None:
    """The demo ends with the verdict that its scenario expects."""
    command = [sys.executable, "-m", "harness", "run", "sentinel-primary-crash"]
    command += ["--reports", str(tmp_path), "--seed", "1", "--quiet"]

    def demo() -> int:
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode

    assert benchmark.pedantic(demo, rounds=2) == 0
