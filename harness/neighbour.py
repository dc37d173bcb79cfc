"""The neighbour of a run: a second deployment of the target on the same Redis, with its own users.

It is started before the load and ended after it, and keeps its history to itself: what is judged is
what the run's own users see of it. A sample of probe `neighbour` says how much it did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp

from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.deploy.provider import PORT as PROVIDER_PORT
from harness.deploy.provider import start_provider
from harness.deploy.workers import PORT, start_worker
from harness.history.reader import read_history
from harness.history.records import COMPLETIONS, OK
from harness.history.writer import HistoryWriter
from harness.load.launch import LoadProcesses, start_load
from harness.load.prepare import prepare
from harness.load_specs import Load
from harness.plan import Plan, make_plan
from harness.probes.base import close_quietly
from harness.probes.join import join, make_client
from harness.scenario import Focus, Scenario

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian
    from harness.neighbour_specs import Neighbour

NAME = "neighbour"
FIRST_HOST = 90  # the last number of its first worker's address; the run's own end at 81
LONGER_S = 120.0  # than the run's load: it is ended, and does not end
LEAD_S = 0.3
READY_S = 60.0
END_S = 10.0
ANSWER_S = 5.0
USE_AGAIN_S = 10.0  # a third of what the runtime remembers a use for
MODELS = 16  # that one socket may use
QUIET = Focus(stops_per_s=0, sign_outs_per_s=0, canaries_per_s=0)


@contextlib.asynccontextmanager
async def neighbour(
    guardian: Guardian, deployment: Deployment, plan: Plan, run: RunFolder, writer: HistoryWriter
) -> AsyncIterator[None]:
    """Have the neighbour of the plan's scenario, if it has one, within the block.

    Raises UserError when it cannot be started. Its processes end with the run at the latest.
    """
    scenario = Scenario.model_validate(plan.scenario)
    if scenario.neighbour is None:
        yield
        return
    folder = RunFolder.create(run.data / NAME)
    own_plan = make_plan(_quiet(scenario, scenario.neighbour), plan.seed)
    folder.plan.write_bytes(own_plan.to_json())
    twin = beside(deployment, scenario.neighbour)
    await start(guardian, twin, folder, writer)
    load = await start_load(guardian, twin, own_plan, folder, writer.clock, f"load-{NAME}")
    admin = (await prepare(twin, own_plan, folder, writer.clock)).admin
    await load.ready(READY_S)
    load.go(writer.clock.now() + LEAD_S)
    guests = sum(step.do == "visit" for step in plan.timetable)
    using = asyncio.create_task(_use(twin.workers[0], admin.token, guests))
    try:
        yield
    finally:
        await _end(load)
        if lost := await _ended(using):
            text = f"{NAME}: the socket that uses models was lost: {lost}"
            writer.record("note", level="error", text=text)
        writer.record("sample", probe=NAME, **done(folder))


def beside(deployment: Deployment, neighbour: Neighbour) -> Deployment:
    """Return the neighbour's deployment, nothing of it started: what it shares is Redis.

    Its workers dial Redis without links, so faults on links are the run's own alone.
    """
    workers = [
        Worker(n, f"{deployment.subnet}.{FIRST_HOST + n}", PORT, f"{NAME}-{n}")
        for n in range(neighbour.workers)
    ]
    variables = {**deployment.variables, **neighbour.environment}
    return replace(
        deployment,
        workers=workers,
        links=[],
        balancer=None,
        database=None,
        tracing=None,
        provider_url="",
        variables=variables,
    )


async def start(
    guardian: Guardian, twin: Deployment, folder: RunFolder, writer: HistoryWriter
) -> None:
    """Start its provider and workers, with files and a secret in a folder of its own."""
    clock, at = writer.clock, (f"{twin.subnet}.3", PROVIDER_PORT + 1)
    await start_provider(guardian, twin, folder, clock, at, f"{NAME}-provider")
    for worker in twin.workers:
        await start_worker(guardian, twin, folder, clock, worker)


def _quiet(scenario: Scenario, neighbour: Neighbour) -> Scenario:
    """Return the scenario of the neighbour's users: they chat as the run's own, and that is all."""
    chatting = {"chats": scenario.load.chats, "think_s": scenario.load.think_s}
    return Scenario(
        name=NAME,
        story=scenario.story,
        topology=scenario.topology,
        workers=neighbour.workers,
        load=Load(users=neighbour.users, reads_per_s=1, **chatting),
        duration_s=scenario.warmup_s + scenario.duration_s + LONGER_S,
        focus=QUIET,
    )


async def _use(worker: Worker, token: str, guests: int) -> None:
    """Use all the time, over one socket, models of the names that the run's guests use.

    Both deployments offer the same models: that is what makes their use look alike in Redis.
    """
    models = [f"guest-{n}" for n in range(min(guests, MODELS))]
    async with aiohttp.ClientSession() as http:
        client = make_client(http)
        await join(client, worker.url, {"token": token}, ANSWER_S)
        try:
            while models:
                for model in models:
                    await client.emit("usage", {"model": model})
                await asyncio.sleep(USE_AGAIN_S)
        finally:
            await close_quietly(client.shutdown())


async def _ended(using: asyncio.Task[None]) -> str:
    """End a task; return why it had ended before, if it had."""
    using.cancel()
    (result,) = await asyncio.gather(using, return_exceptions=True)
    return "" if isinstance(result, asyncio.CancelledError | None) else repr(result)


async def _end(load: LoadProcesses) -> None:
    """End its load early: there is no last look to take."""
    load.interrupt()
    await load.finished(END_S)


def done(folder: RunFolder) -> dict[str, int]:
    """Return how many streams its provider opened, and how many operations its users did."""
    seen: Counter[str] = Counter()
    for record in read_history(folder.history):
        seen["streams"] += record["k"] == "stream" and record["event"] == "open"
        seen["operations"] += record["k"] == OK
        seen["failed"] += record["k"] in COMPLETIONS - {OK}
    return {name: seen[name] for name in ("streams", "operations", "failed")}
