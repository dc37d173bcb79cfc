"""Workers are killed, stopped and paused, and come back, with evidence of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from net_parts import guarded
from test_net_workers import WORKER, ScriptTarget

from harness.clock import RunClock
from harness.deploy.balancer import find_nginx, start_balancer
from harness.deploy.model import Deployment, Node, Worker
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.fault_specs import FAULT_SPECS
from harness.faults.balancer import chosen
from harness.faults.base import Fault, FaultError
from harness.faults.context import FaultContext
from harness.faults.injector import KINDS
from harness.plan import PlannedFault
from harness.scenario import Redis

KILL = {"kind": "worker-kill", "workers": "worker:1", "for_s": 1.0}
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def spec(kind: str, **more: Any) -> dict[str, Any]:
    """Return a fault's spec as the scenario's schema fills it."""
    model = FAULT_SPECS[kind].model_validate({"kind": kind, "at": 0, "for_s": 1, **more})
    return model.model_dump(mode="json")


async def fault_on(
    guardian: Guardian, deployment: Deployment, spec: dict[str, Any], script: str = WORKER
) -> Fault:
    """Start two workers; return a fault that is aimed."""
    folder = guardian.run.data
    deployment.target = ScriptTarget(folder / "worker.py", script)
    deployment.nodes.append(Node("redis-0", "redis", f"{deployment.subnet}.10", 6379, folder))
    deployment.provider_url = f"http://{deployment.subnet}.3:9000/v1"
    clock = RunClock()
    await start_workers(guardian, deployment, guardian.run, clock, 2)
    context = FaultContext(guardian, None, Redis(), guardian.run, clock)
    fault = KINDS[spec["kind"]](PlannedFault("f0", 0.0, 1.0, spec), deployment, context)
    fault.target = await fault.aim()
    return fault


async def test_worker_is_killed_and_started_again(tmp_path: Path) -> None:
    """It ends by SIGKILL, the other is left alone, and it is ready again at its address."""
    async with guarded(tmp_path) as (guardian, deployment):
        fault = await fault_on(guardian, deployment, KILL)
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
        fault = await fault_on(guardian, deployment, KILL)
        deployment.workers[1].process = None
        with pytest.raises(FaultError, match="worker-1 has no process of ours"):
            await fault.inject()


async def test_worker_is_stopped_in_order_and_started_again(tmp_path: Path) -> None:
    """It ends by SIGTERM, which is no unexpected exit, and is ready again at its address."""
    async with guarded(tmp_path) as (guardian, deployment):
        fault = await fault_on(guardian, deployment, spec("worker-stop", workers="worker:1"))
        hit = deployment.workers[1].process
        assert hit is not None
        await fault.inject()
        evidence = await fault.confirm()
        assert f"worker-1 (pid {hit.pid}) ended with status -15" in evidence
        assert evidence.endswith("after SIGTERM and refuses connections")
        assert fault.context.expects_exit(hit)
        await fault.heal()
        assert "worker-1 started again, ready after" in await fault.confirm_heal()


async def test_a_roll_out_goes_through_all_workers(tmp_path: Path) -> None:
    """Each is stopped only when the one before it is back; at the end all are new."""
    async with guarded(tmp_path) as (guardian, deployment):
        rolling = spec("worker-stop", workers="all-workers", one_by_one=True)
        fault = await fault_on(guardian, deployment, rolling)
        before = [worker.process for worker in deployment.workers]
        await fault.inject()
        assert await fault.confirm()
        for worker, old in zip(deployment.workers, before, strict=True):
            assert old is not None
            assert old.exit_status == -15
            assert worker.process is not None
            assert worker.process.exit_status is None
        await fault.heal()  # nobody is left to be started
        assert (await fault.confirm_heal()).count("started again") == 2


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
async def test_a_roll_out_tells_the_balancer(tmp_path: Path, monkeypatch: Any) -> None:
    """Nobody is sent to the worker that is stopped next; at the end all are chosen again."""
    async with guarded(tmp_path) as (guardian, deployment):
        rolling = spec("worker-stop", workers="all-workers", one_by_one=True, unlisted=True)
        fault = await fault_on(guardian, deployment, rolling)
        assert "needs a balancer" in str(fault.available())
        await start_balancer(guardian, deployment, guardian.run)
        assert fault.available() is None
        listed: list[set[int]] = []
        end = type(fault).end  # type: ignore[attr-defined]  # of a fault on workers

        def seen(self: Any, worker: Worker, number: int) -> Any:
            listed.append(_listed(deployment))
            return end(self, worker, number)

        monkeypatch.setattr(type(fault), "end", seen)
        await fault.inject()
        assert await fault.confirm()
        await fault.heal()
        assert listed == [{1}, {0}]
        assert set(await chosen(deployment)) == {0, 1}


def _listed(deployment: Deployment) -> set[int]:
    """Return the workers that nginx's configuration balances over."""
    assert deployment.balancer is not None
    text = (deployment.balancer.directory / "nginx.conf").read_text()
    part = text[text.index("upstream balanced") : text.index("keepalive 64")]
    return {worker.number for worker in deployment.workers if f"{worker.host}:" in part}


async def test_worker_that_outlives_its_grace_is_killed(tmp_path: Path) -> None:
    """SIGTERM is not enough for it, and the evidence says so."""
    async with guarded(tmp_path) as (guardian, deployment):
        wanted = spec("worker-stop", workers="worker:1", grace_s=0.2)
        fault = await fault_on(guardian, deployment, wanted, DEAF + WORKER)
        await fault.inject()
        assert "worker-1" in (evidence := await fault.confirm())
        assert "outlived its grace and was killed" in evidence
        await fault.heal()


async def test_worker_is_paused_and_goes_on(tmp_path: Path) -> None:
    """It is the same process before and after, silent in between."""
    async with guarded(tmp_path) as (guardian, deployment):
        fault = await fault_on(guardian, deployment, spec("worker-pause", workers="all-workers"))
        before = [worker.process for worker in deployment.workers]
        await fault.inject()
        assert "worker-1 (pid" in (evidence := await fault.confirm())
        assert evidence.count("is in state T, no answer to /health within 300 ms") == 2
        await fault.heal()
        assert "worker-0 answers again" in await fault.confirm_heal()
        assert [worker.process for worker in deployment.workers] == before
