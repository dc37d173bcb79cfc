"""Pinned processes and users for the benchmarks: Redis and load on one core, workers on others."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from harness.deploy.model import Process
from harness.deploy.service import answered, clean_environment
from harness.targets.base import WorkerSpec
from harness.targets.runtime import RuntimeTarget
from tests.live import Live

ROOT = Path(__file__).resolve().parents[2]
READY_S = 15.0
SECRET = "a secret of the benchmarks, 32 letters"


@dataclass
class BenchWorker:
    """A worker process and how to reach it."""

    process: Process
    host: str
    port: int

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://{self.host}:{self.port}"

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


async def start_bench_worker(
    parts: Live, name: str, core: int | None = None, module: str = "runtime", **env: str
) -> BenchWorker:
    """Start a worker without the harness's instruments; on one core where there are several."""
    number = len(parts.guardian.processes)
    host, port = f"{parts.deployment.subnet}.{100 + number}", 8080
    data = parts.run.data / env.get("REDIS_KEY_PREFIX", "bench")
    data.mkdir(exist_ok=True)
    access, provider = parts.deployment.access, parts.deployment.provider_url
    spec = WorkerSpec(number, host, port, name, access, provider, str(data), SECRET, extra=env)
    target = RuntimeTarget([sys.executable, "-m", module])
    environment = clean_environment(ROOT) | target.environment(spec) | {"GLOBAL_LOG_LEVEL": "ERROR"}
    process = await parts.guardian.spawn(name, on_core(core, target.command(spec)), environment)
    worker = BenchWorker(process, host, port)
    await answered(process, f"{worker.url}/ready", READY_S)
    return worker


def on_core(core: int | None, command: list[str]) -> list[str]:
    """Return the command, bound to one of this process's processors where that is possible."""
    cores = sorted(os.sched_getaffinity(0))
    if core is None or len(cores) < 2 or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(cores[core % len(cores)]), *command]


@asynccontextmanager
async def load_on_core(core: int, *processes: Process | None) -> AsyncIterator[None]:
    """Keep this process, which makes the load, and others on one core."""
    mine = os.sched_getaffinity(0)
    cores = sorted(mine)
    pids = [0, *(process.pid for process in processes if process is not None)]
    for pid in pids if len(cores) > 1 else ():
        os.sched_setaffinity(pid, {cores[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


async def post(url: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    """Return the JSON answer of a POST; fail unless it is 200."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as http:  # noqa: SIM117 - reads better
        async with http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


async def sign_up(worker: BenchWorker, name: str) -> dict[str, Any]:
    """Make an account; return its `id` and `token`."""
    body = {"name": name, "email": f"{name}@bench.example", "password": "correct horse"}
    return await post(f"{worker.url}/api/v1/auths/signup", body)


async def session_of(worker: BenchWorker, number: int) -> tuple[str, str]:
    """Return token and session cookie of a new user whose session has data."""
    token = (await sign_up(worker, f"u{number}"))["token"]
    url = f"{worker.url}/api/v1/session/data"
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.post(url, json={"theme": "dark"}, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return token, f"owui-session={answer.cookies['owui-session'].value}"
