"""Workers that start before Redis: they wait for it, or die of it, and both is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from net_parts import guarded
from test_net_workers import WORKER, ScriptTarget

from harness.clock import RunClock
from harness.deploy.host import ProcessHost
from harness.deploy.model import Deployment
from harness.deploy.redis import place_redis
from harness.deploy.spawner import Guardian
from harness.faults.absent import Absence
from harness.history.writer import HistoryWriter
from harness.scenario import Redis

NEEDS_REDIS = """
import socket, sys
try:
    subnet = sys.argv[sys.argv.index("--host") + 1].rsplit(".", 1)[0]
    socket.create_connection((subnet + ".10", 6379))
except OSError:
    sys.exit(7)
"""


async def boot(guardian: Guardian, deployment: Deployment) -> list[dict[str, Any]]:
    """Start two workers and then Redis; return what the history says of it."""
    run = guardian.run
    deployment.provider_url = f"http://{deployment.subnet}.3:9000/v1"
    await place_redis(ProcessHost(guardian), deployment, Redis(), run)
    writer = HistoryWriter(run.history, "harness", RunClock())
    await Absence(guardian, deployment, Redis(absent_at_boot_s=0.5), run, writer).start(2)
    writer.close()
    return [orjson.loads(line) for line in writer.path.read_bytes().splitlines()]


def evidence(records: list[dict[str, Any]], event: str) -> str:
    """Return the evidence of one step."""
    [found] = [r for r in records if r["k"] == "fault" and r["event"] == event]
    assert found["id"] == "boot"
    return str(found["evidence"])


async def test_the_runtime_waits_for_redis(tmp_path: Path) -> None:
    """Up, not ready, ready as soon as Redis is there, and none of its processes ended."""
    async with guarded(tmp_path) as (guardian, deployment):
        records = await boot(guardian, deployment)
        events = [r["event"] for r in records if r["k"] == "fault"]
        assert events == ["inject", "confirm", "heal", "confirm_heal"]
        said = evidence(records, "confirm")
        assert "redis-0 refuses connections" in said
        for name in ("worker-0", "worker-1"):
            assert f"{name} is up (/health 200) and is not ready (/ready 503)" in said
        assert "started again" not in evidence(records, "confirm_heal")
        assert not [r for r in records if r["k"] == "exit"]


async def test_workers_that_die_of_it_are_told_and_started_again(tmp_path: Path) -> None:
    """Their exits are no fault's doing: the guarantee that no worker dies by itself is broken."""
    async with guarded(tmp_path) as (guardian, deployment):
        deployment.target = ScriptTarget(guardian.run.data / "worker.py", NEEDS_REDIS + WORKER)
        records = await boot(guardian, deployment)
        assert "worker-0 has ended; worker-1 has ended" in evidence(records, "confirm")
        exits = [(r["name"], r["status"], r["expected"]) for r in records if r["k"] == "exit"]
        assert sorted(exits) == [("worker-0", 7, False), ("worker-1", 7, False)]
        told = evidence(records, "confirm_heal")
        assert "worker-0, worker-1 had to be started again" in told
