"""A worker is killed and started again, with evidence of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from net_parts import guarded
from test_net_workers import WORKER, ScriptTarget

from harness.clock import RunClock
from harness.deploy.model import Deployment, Node
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.faults.base import FaultError
from harness.faults.context import FaultContext
from harness.faults.worker import WorkerKill
from harness.plan import PlannedFault
from harness.scenario import Redis

SPEC = {"kind": "worker-kill", "workers": "worker:1", "for_s": 1.0}


async def fault_on(guardian: Guardian, deployment: Deployment) -> WorkerKill:
    """Start two workers; return a fault that is aimed at the second."""
    folder = guardian.run.data
    deployment.target = ScriptTarget(folder / "worker.py", WORKER)
    deployment.nodes.append(Node("redis-0", "redis", f"{deployment.subnet}.10", 6379, folder))
    deployment.provider_url = f"http://{deployment.subnet}.3:9000/v1"
    clock = RunClock()
    await start_workers(guardian, deployment, guardian.run, clock, 2)
    context = FaultContext(guardian, None, Redis(), guardian.run, clock)
    fault = WorkerKill(PlannedFault("f0", 0.0, 1.0, SPEC), deployment, context)
    fault.target = await fault.aim()
    return fault


async def test_worker_is_killed_and_started_again(tmp_path: Path) -> None:
    """It ends by SIGKILL, the other is left alone, and it is ready again at its address."""
    async with guarded(tmp_path) as (guardian, deployment):
        fault = await fault_on(guardian, deployment)
        assert (fault.target.workers, fault.target.nodes) == ([1], [])
        spared, hit = [worker.process for worker in deployment.workers]
        assert spared is not None
        assert hit is not None
        await fault.inject()
        assert f"worker-1 (pid {hit.pid}) ended by SIGKILL" in await fault.confirm()
        assert fault.context.expects_exit(hit)
        await fault.heal()
        assert "worker-1 started again" in await fault.confirm_heal()
        again = deployment.workers[1].process
        assert again is not None
        assert again.pid != hit.pid
        assert deployment.workers[0].process is spared
        assert spared.exit_status is None


async def test_worker_that_is_not_ours_cannot_be_killed(tmp_path: Path) -> None:
    """Without a process there is nothing to act on, and the error says so."""
    async with guarded(tmp_path) as (guardian, deployment):
        fault = await fault_on(guardian, deployment)
        deployment.workers[1].process = None
        with pytest.raises(FaultError, match="worker-1 has no process of ours"):
            await fault.inject()
