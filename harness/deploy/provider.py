"""Starts the fake model provider of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.deploy.service import answered, clean_environment

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

PORT = 9000
READY_S = 15.0
ROOT = Path(__file__).resolve().parents[2]  # the harness may be run uninstalled


async def start_provider(
    guardian: Guardian,
    deployment: Deployment,
    run: RunFolder,
    clock: RunClock,
    at: tuple[str, int] | None = None,
    name: str = "provider",
) -> None:
    """Start it, on the run's 127.x.y.3 unless told where; set `provider_url` (with `/v1`).

    Raises UserError with the end of its log when it dies, WaitTimeout when it does not answer.
    """
    host, port = at or (f"{deployment.subnet}.3", PORT)
    options = {"host": host, "port": port, "history": run.history.resolve(), "base": clock.base}
    argv = [sys.executable, "-m", "harness.deploy.provider_app"]
    argv += [f"--{name}={value}" for name, value in options.items()]
    process = await guardian.spawn(name, argv, clean_environment(ROOT), last=True)
    await answered(process, f"http://{host}:{port}/v1/models", READY_S)
    deployment.provider_url = f"http://{host}:{port}/v1"
