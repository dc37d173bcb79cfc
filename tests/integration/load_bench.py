"""A bench for tests of the load: a small target, one run folder, plain child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.load.launch import LoadProcesses, start_load
from harness.load.prepare import prepare
from harness.plan import Plan, make_plan
from harness.scenario import Scenario
from harness.targets.base import SESSION_DATA, STOP_STATES
from harness.waiting import wait_for

HERE = Path(__file__).parent
HOSTS = ["127.95.7.50", "127.95.7.51", "127.95.7.52"]
SMALL: dict[str, Any] = {
    "name": "small",
    "story": "users would see nothing of this",
    "topology": "standalone",
    "warmup_s": 0,
    "duration_s": 1.6,
    "focus": {"stops_per_s": 8, "sign_outs_per_s": 8, "hang_ups_per_s": 20},
    "bounds": {"tasks_unlisted_s": 0.3},
    "load": {
        "users": 6,
        "chats": {"tokens": 10, "tokens_per_s": 10},
        "think_s": [0.1, 0.2],
        "reads_per_s": 20,
    },
}


class PlainProcess:
    """A child of the test, seen as a process of a run."""

    def __init__(self, name: str, log: Path, argv: list[str], env: dict[str, str]) -> None:
        self.name, self.log = name, log
        with log.open("wb") as out:
            self._popen = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
        self.pid = self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """Return the exit code, or None."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    async def wait(self, deadline: float) -> int:
        """Wait for the end."""
        await wait_for(lambda: self.exit_status is not None, deadline, f"{self.name} ends")
        return self._popen.returncode

    async def state(self) -> str:
        """Return no state: nobody stops it."""
        return ""


class PlainSpawner:
    """Starts children and kills what is left of them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[PlainProcess] = []

    async def spawn(
        self, name: str, argv: list[str], env: dict[str, str], cwd: Path | None = None
    ) -> PlainProcess:
        """Start a child."""
        process = PlainProcess(name, self._logs / f"{name}.log", argv, env)
        self._started.append(process)
        return process

    async def stop(self) -> None:
        """Kill and reap all."""
        for process in self._started:
            process.signal(signal.SIGKILL)
            await process.wait(5)


class PlainTarget:
    """Names the small target's capabilities."""

    name = "small"
    capabilities = frozenset({SESSION_DATA, STOP_STATES})


class Bench:
    """One run folder, one small target and its load."""

    def __init__(self, folder: Path, port: int) -> None:
        self.run = RunFolder.create(folder)
        self.clock = RunClock()
        self.spawner = PlainSpawner(self.run.logs)
        self.deployment = Deployment("standalone", PlainTarget(), "127.95.7")  # type: ignore[arg-type]
        self.deployment.workers = [
            Worker(number, host, port, str(number)) for number, host in enumerate(HOSTS)
        ]
        self.deployment.provider_url = self.deployment.workers[0].url
        self.port = port

    async def start_target(self, *flags: str) -> None:
        """Start the small target and wait until it answers."""
        argv = [sys.executable, str(HERE / "load_target.py"), *HOSTS, *flags]
        self.target = await self.spawner.spawn(
            "target", [*argv, "--port", str(self.port)], {"PATH": os.defpath}
        )
        await wait_for(self._answers, 15, "target answers")

    async def _answers(self) -> bool:
        _, writer = await asyncio.open_connection(HOSTS[-1], self.port)
        writer.close()
        return True

    def plan(self, duration_s: float = SMALL["duration_s"], **load: Any) -> Plan:
        """Write and return the plan of the small scenario."""
        scenario = SMALL | {"duration_s": duration_s, "load": SMALL["load"] | load}
        plan = make_plan(Scenario.model_validate(scenario), seed=1)
        self.run.plan.write_bytes(plan.to_json())
        return plan

    async def start(self, plan: Plan) -> LoadProcesses:
        """Make accounts and start the load; it waits for `go`."""
        await prepare(self.deployment, plan, self.run, self.clock)
        return await start_load(self.spawner, self.deployment, plan, self.run, self.clock)

    async def load(self, plan: Plan) -> list[str]:
        """Do the whole load; return the names of lost processes."""
        load = await self.start(plan)
        await load.ready(30)
        load.go(self.clock.now() + 0.2)
        return await load.finished(40)

    def history(self, source: str) -> list[dict[str, Any]]:
        """Return the records of one history file."""
        lines = (self.run.history / f"{source}.jsonl").read_bytes().splitlines()
        return [orjson.loads(line) for line in lines]


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    """Yield a bench on a free port; its processes are gone afterwards."""
    with socket.create_server((HOSTS[0], 0)) as probe:
        port = probe.getsockname()[1]
    bench = Bench(folder / "run", port)
    try:
        yield bench
    finally:
        await bench.spawner.stop()


def operations(records: list[dict[str, Any]]) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Return per operation its (invoke, completion) pairs."""
    ends = {r["id"]: r for r in records if r["k"] in ("ok", "fail", "info")}
    found: dict[str, list[tuple[dict[str, Any], Any]]] = defaultdict(list)
    for record in records:
        if record["k"] == "invoke":
            found[record["op"]].append((record, ends.get(record["id"])))
    return found
