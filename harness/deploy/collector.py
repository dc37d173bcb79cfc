"""Starts the run's own OpenTelemetry collector."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Tracing
from harness.deploy.service import answered, clean_environment
from harness.telemetry_specs import Telemetry

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

HOST, PORT = 5, 4318
READY_S = 15.0
ROOT = Path(__file__).resolve().parents[2]  # the harness may be run uninstalled


async def start_collector(
    guardian: Guardian,
    deployment: Deployment,
    run: RunFolder,
    clock: RunClock,
    telemetry: Telemetry,
    forward: str = "",
) -> None:
    """Start it on the run's 127.x.y.5 and set `deployment.tracing`.

    It ends after the workers, which send their last spans when they end. Raises UserError with
    the end of its log when it dies or does not answer.
    """
    host = f"{deployment.subnet}.{HOST}"
    options = {"host": host, "port": PORT, "history": run.history.resolve(), "base": clock.base}
    options |= {"most": telemetry.max_spans, "forward": forward}
    argv = [sys.executable, "-m", "harness.deploy.collector_app"]
    argv += [f"--{name}={value}" for name, value in options.items()]
    process = await guardian.spawn("collector", argv, clean_environment(ROOT), last=True)
    url = f"http://{host}:{PORT}"
    await answered(process, f"{url}/", READY_S)
    deployment.tracing = Tracing(url, telemetry.sample, run.root.name)
