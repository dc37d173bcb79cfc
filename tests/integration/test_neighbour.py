"""A second deployment on the same Redis: what leaks under one prefix, and what two prefixes keep.

Real workers, Redis, providers and load processes of the neighbour; only the run around them is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.provider import start_provider
from harness.deploy.redis import start_redis
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.history.writer import HistoryWriter
from harness.load.accounts import Accounts
from harness.load.prepare import prepare
from harness.neighbour import FIRST_HOST, NAME, neighbour
from harness.plan import Plan, make_plan
from harness.scenario import Redis, Scenario
from harness.targets import get_target
from harness.waiting import wait_for

WITHIN_S = 60.0  # the processes of a busy machine start slowly


@dataclass
class Side:
    """The admin of one of the two deployments, at its first worker."""

    url: str
    token: str

    async def ask(self, path: str) -> dict[str, Any]:
        """Return what a route answers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.url}{path}") as response,
        ):
            assert response.status == 200, await response.text()
            return orjson.loads(await response.read())  # type: ignore[no-any-return]  # an object

    async def tasks(self) -> list[str]:
        """Return all running tasks."""
        return list((await self.ask("/api/tasks"))["tasks"])

    async def in_use(self) -> list[str]:
        """Return the models in use."""
        return list((await self.ask("/api/usage"))["model_ids"])

    async def strangers(self) -> int:
        """Return how many running tasks of others the worker knows of."""
        return int((await self.ask("/ready"))["task_owners"]["strangers"])


def plan_with(environment: dict[str, str]) -> Plan:
    """Return a plan whose neighbour chats all the time; guests come in the run's own load."""
    return make_plan(
        Scenario.model_validate(
            {
                "name": "two",
                "story": "Two installations share a Redis.",
                "topology": "standalone",
                "workers": 1,
                "load": {"users": 1, "think_s": [0.05, 0.1]},
                "focus": {"visits_per_s": 0.5, "sign_outs_per_s": 0},
                "neighbour": {"users": 2, "environment": environment},
            }
        ),
        1,
    )


@asynccontextmanager
async def twins(folder: Path, environment: dict[str, str]) -> AsyncIterator[tuple[Side, Side]]:
    """Start both deployments; yield ours, where nobody chats, and the neighbour."""
    run, clock, lease = RunFolder.create(folder / "run"), RunClock(), Lease.acquire()
    writer, plan = HistoryWriter(run.history, "harness", clock), plan_with(environment)
    guardian = await Guardian.start(run, lease)
    deployment = Deployment("standalone", get_target("runtime"), lease.subnet)
    try:
        await start_redis(ProcessHost(guardian), deployment, Redis(), run)
        await start_provider(guardian, deployment, run, clock)
        await start_workers(guardian, deployment, run, clock, 1)
        ours = await prepare(deployment, plan, run, clock)
        async with neighbour(guardian, deployment, plan, run, writer):
            theirs = Accounts.read(RunFolder(run.data / NAME).accounts)
            there = f"http://{lease.subnet}.{FIRST_HOST}:8080"
            here = deployment.workers[0].url
            yield Side(here, ours.admin.token), Side(there, theirs.admin.token)
    finally:
        await guardian.stop()
        writer.close()


def told(folder: Path) -> dict[str, Any]:
    """Return the last sample of the run's history: what the neighbour did."""
    lines = (folder / "run/history/harness.jsonl").read_bytes().splitlines()
    found: dict[str, Any] = orjson.loads(lines[-1])
    return found


async def test_under_one_prefix_the_neighbours_tasks_and_models_are_shown(tmp_path: Path) -> None:
    """Nobody chats here, and yet; the worker says whose fault that is."""
    async with twins(tmp_path, {}) as (ours, theirs):
        await wait_for(ours.tasks, WITHIN_S, "a task of the neighbour is listed here")
        await wait_for(theirs.in_use, WITHIN_S, "a model is in use next door")
        assert "guest-0" in await ours.in_use()
        await wait_for(ours.strangers, WITHIN_S, "the worker notices")
    assert "not of this database" in (tmp_path / "run/logs/worker-0.log").read_text()
    assert told(tmp_path)["probe"] == NAME
    assert told(tmp_path)["streams"] > 0


async def test_under_two_prefixes_nothing_of_the_neighbour_is_shown(tmp_path: Path) -> None:
    """While it chats and uses models, as its own worker says."""
    async with twins(tmp_path, {"REDIS_KEY_PREFIX": "other"}) as (ours, theirs):
        await wait_for(theirs.tasks, WITHIN_S, "a task of the neighbour is listed there")
        await wait_for(theirs.in_use, WITHIN_S, "a model is in use next door")
        assert await ours.tasks() == []
        assert await ours.in_use() == []
        assert await ours.strangers() == 0
    assert told(tmp_path)["streams"] > 0
