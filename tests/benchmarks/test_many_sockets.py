"""10 000 idle sockets of 1 000 accounts, and 1 000 sockets with live streams, on two workers.

Memory of a socket is the slope between half and all of them, on both sides. Idle sockets are held
for 65 s: two pings and two heartbeats each. No socket and no token may be lost. SOCKETS=1000 makes
it a tenth of that; what is saved as a baseline has the full size.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from harness.clock import RunClock
from harness.deploy.model import Process
from harness.load.launch import load_environment
from harness.load.prepare import prepare
from harness.load.setup import LoadSetup, setup_path
from harness.plan import make_plan
from harness.scenario import Scenario
from harness.waiting import wait_for
from tests.benchmarks.figures import Figures
from tests.live import Live, live

SOCKETS = int(os.environ.get("SOCKETS", "10000"))
ACCOUNTS = SOCKETS // 10  # as many have streams
WORKERS = 2
SPARE_FILES = 1000
STAGE_S = 900.0
SETTLE_S = 3.0
TOKENS = 60  # of a stream of crowd.py
KIB = 1024


class Watched:
    """Two workers and a crowd; reads memory and processor time between the crowd's stages."""

    def __init__(self, parts: Live) -> None:
        self._parts = parts
        self._stage = 0
        self._process: Process | None = None

    async def start(self, mode: str, sockets: int) -> dict[str, Any]:
        """Start a crowd; return its first stage."""
        module = [sys.executable, "-m", "tests.benchmarks.crowd", mode]
        argv = [*module, str(self._parts.run.root.resolve()), str(sockets)]
        self._process = await self._parts.guardian.spawn(mode, argv, load_environment())
        return await self._said()

    async def next(self) -> dict[str, Any]:
        """Let the crowd go on; return its next stage."""
        self._go()
        return await self._said()

    async def end(self) -> None:
        """Let the crowd end, and clear its stages away."""
        self._go()
        assert self._process is not None
        await self._process.wait(60)
        for path in self._parts.run.data.glob("*-[0-9]*"):
            if path.name.startswith(("said-", "go-")):
                path.unlink()
        self._stage = 0

    def _go(self) -> None:
        (self._parts.run.data / f"go-{self._stage}").touch()
        self._stage += 1

    async def _said(self) -> dict[str, Any]:
        """Return what the crowd says of this stage, and what its workers use now."""
        path = self._parts.run.data / f"said-{self._stage}.json"
        process = self._process
        assert process is not None

        def told() -> bool:
            return path.exists() or process.exit_status is not None

        await wait_for(told, STAGE_S, path.name)
        assert path.exists(), process.log.read_text()[-2000:]
        await asyncio.sleep(SETTLE_S)  # what is still being freed does not belong to a socket
        processes = [self._worker(number) for number in range(WORKERS)]
        return {
            **orjson.loads(path.read_bytes()),
            "workers_rss": sum(each.memory_info().rss for each in processes),
            "workers_cpu_s": sum(sum(each.cpu_times()[:2]) for each in processes),
        }

    def _worker(self, number: int) -> psutil.Process:
        process = self._parts.deployment.workers[number].process
        assert process is not None
        return psutil.Process(process.pid)


async def measure(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the stages of the idle crowd, and of the one with streams."""
    async with live("standalone", folder, workers=WORKERS) as parts:
        clock = RunClock()
        scenario = {"name": "crowd", "story": "Many sockets, for a benchmark of memory."}
        fields = scenario | {"topology": "standalone", "load": {"users": ACCOUNTS}}
        focus = {"focus": {"sign_outs_per_s": 0}}
        plan = make_plan(Scenario.model_validate(fields | focus), 1)
        parts.run.plan.write_bytes(plan.to_json())
        deployment = parts.deployment
        await prepare(deployment, plan, parts.run, clock)
        urls = tuple(worker.url for worker in deployment.workers)
        capabilities = deployment.target.capabilities
        LoadSetup(urls, capabilities, clock.base).write(setup_path(parts.run))
        watched = Watched(parts)
        idle = [await watched.start("idle", SOCKETS)]
        idle += [await watched.next() for _ in range(3)]
        await watched.end()
        streaming = [await watched.start("streaming", ACCOUNTS), await watched.next()]
        await watched.end()
        return idle, streaming


def note_idle(figures: Figures, stages: list[dict[str, Any]]) -> None:
    """Note memory by slope, processor time while they are held, and what was lost."""
    _, half, full, held = stages
    more = full["open"] - half["open"]
    for name, key in (("worker", "workers_rss"), ("load process", "rss")):
        slope = (full[key] - half[key]) / more / KIB
        figures.note(f"memory of an idle socket, {name}", [slope], "KiB")
    figures.note("idle sockets", [full["open"]], "", at_least=SOCKETS)
    figures.note("sockets opened a second", [more / full["took_s"]], "/s")
    figures.note("idle sockets lost", [held["lost"] + SOCKETS - held["open"]], "", at_most=0)
    for name, key in (("workers", "workers_cpu_s"), ("load process", "cpu_s")):
        used = 1e6 * (held[key] - full[key]) / SOCKETS
        figures.note(f"CPU of an idle socket in 65 s, {name}", [used], "us")


def note_streams(figures: Figures, stages: list[dict[str, Any]]) -> None:
    """Note what a live stream's events cost, and what was lost."""
    before, after = stages
    wanted = ACCOUNTS * TOKENS
    figures.note("sockets with a stream", [after["done"]], "", at_least=ACCOUNTS)
    figures.note("streams broken", [ACCOUNTS - after["whole"]], "", at_most=0)
    figures.note("tokens lost", [wanted - after["tokens"]], "", at_most=0)
    figures.note("sockets with a stream lost", [after["lost"]], "", at_most=0)
    figures.note("tokens a second", [after["tokens"] / after["took_s"]], "/s")
    for name, key in (("workers", "workers_cpu_s"), ("load process", "cpu_s")):
        used = 1e6 * (after[key] - before[key]) / wanted
        figures.note(f"CPU of a streamed token, {name}", [used], "us")


@pytest.mark.timeout(1800)
def test_many_sockets(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """No idle socket and no token of a live stream is lost."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < SOCKETS + SPARE_FILES:
        pytest.skip(f"needs {SOCKETS + SPARE_FILES} open files: raise `ulimit -n`")
    idle, streaming = benchmark.pedantic(lambda: asyncio.run(measure(tmp_path)), rounds=1)
    note_idle(figures, idle)
    note_streams(figures, streaming)
