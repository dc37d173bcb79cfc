"""Starts the workers of the target, each with its dial hook, all at once."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import harness.network
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.deploy.service import answered, clean_environment
from harness.targets.base import READY, WorkerSpec

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

PORT = 8080
FIRST_HOST = 50
HOOK = Path(harness.network.__file__).resolve().parent / "dialhook"


async def start_workers(
    guardian: Guardian, deployment: Deployment, run: RunFolder, clock: RunClock, count: int
) -> None:
    """Start `count` workers in parallel, fill `deployment.workers`, wait until all are ready.

    Raises UserError with the end of its log for a worker that dies or never becomes ready.
    """
    place_workers(deployment, count)
    alone, together = deployment.workers[:0], deployment.workers
    if deployment.target.first_alone:
        alone, together = together[:1], together[1:]
    for worker in alone:
        await start_worker(guardian, deployment, run, clock, worker)
    starts = [
        asyncio.create_task(start_worker(guardian, deployment, run, clock, worker))
        for worker in together
    ]
    try:
        await asyncio.gather(*starts)
    finally:  # the first failure ends the wait for the others
        for start in starts:
            start.cancel()


def place_workers(deployment: Deployment, count: int) -> None:
    """Fill `deployment.workers`; nothing is started."""
    deployment.workers = [
        Worker(n, f"{deployment.subnet}.{FIRST_HOST + n}", PORT, f"worker-{n}")
        for n in range(count)
    ]


async def start_worker(
    guardian: Guardian, deployment: Deployment, run: RunFolder, clock: RunClock, worker: Worker
) -> None:
    """Start one worker (again) and wait until it is ready; sets `worker.process`."""
    spec = worker_spec(deployment, run, worker)
    target = deployment.target
    environment = {
        **clean_environment(HOOK, *deployment.python_path),
        **_without(target.environment(spec), deployment.variables),
        **hook_environment(deployment, run, clock, worker),
    }
    command = target.command(spec)
    # a target's command may be relative, or name a module of the current folder
    worker.process = await guardian.spawn(
        worker.instance, command, environment, Path.cwd(), cpus=deployment.worker_cpus
    )
    path = "/ready" if READY in target.capabilities else "/health"
    await answered(worker.process, worker.url + path, target.ready_s)


def worker_spec(deployment: Deployment, run: RunFolder, worker: Worker) -> WorkerSpec:
    """Return what the target needs to know; workers share the database folder and the secret."""
    data = run.data / "target"
    data.mkdir(parents=True, exist_ok=True)
    tracing = deployment.tracing
    return WorkerSpec(
        number=worker.number,
        host=worker.host,
        port=worker.port,
        instance=worker.instance,
        redis=deployment.access_of(worker.number),
        provider_url=deployment.provider_url,
        data_directory=str(data.resolve()),
        secret=_secret(run.data / "secret"),
        database_url="" if deployment.database is None else deployment.database.url,
        collector=tracing.collector if tracing else "",
        trace_share=tracing.share if tracing else 1.0,
        run=tracing.run if tracing else "",
        extra={n: value for n, value in deployment.variables.items() if value is not None},
    )


def _without(own: dict[str, str], variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return the target's variables, less those that the scenario takes away."""
    return {name: value for name, value in own.items() if variables.get(name, value) is not None}


def hook_environment(
    deployment: Deployment, run: RunFolder, clock: RunClock, worker: Worker
) -> dict[str, str]:
    """Return the variables of the dial hook; without links it only times the loop."""
    links = {
        f"{link.upstream[0]}:{link.upstream[1]}": f"{link.listen[0]}:{link.listen[1]}"
        for link in deployment.links
        if deployment.hooked and link.worker == worker.number
    }
    return {
        "HARNESS_LINKS": json.dumps(links),
        "HARNESS_DETOURS": str(detours_file(run).resolve()),
        "HARNESS_HISTORY": str(run.history.resolve()),
        "HARNESS_BASE": repr(clock.base),
        "HARNESS_WORKER": str(worker.number),
    }


def detours_file(run: RunFolder) -> Path:
    """Return the file that tells the dial hook of links that were replaced."""
    return run.data / "detours.json"


def _secret(path: Path) -> str:
    """Return the run's secret, the same for a worker that is started again."""
    if not path.exists():
        path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        path.chmod(0o600)
    return path.read_text(encoding="utf-8")
