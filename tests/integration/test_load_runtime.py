"""The same load against the bundled runtime on real parts: Redis, provider, three workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from load_bench import Bench, operations

from harness.deploy.host import ProcessHost
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.provider import start_provider
from harness.deploy.redis import start_redis
from harness.deploy.spawner import Guardian
from harness.deploy.workers import start_workers
from harness.scenario import Redis
from harness.targets import get_target


async def load_the_runtime(folder: Path) -> tuple[list[str], Bench]:
    """Deploy the runtime on a standalone Redis, do one small load, take everything down."""
    lease = Lease.acquire()
    bench = Bench(folder / "run", 8080)
    guardian = await Guardian.start(bench.run, lease)
    bench.spawner = guardian  # type: ignore[assignment]  # the real one
    bench.deployment = deployment = Deployment("standalone", get_target(), lease.subnet)
    try:
        await start_redis(ProcessHost(guardian), deployment, Redis(), bench.run)
        await start_provider(guardian, deployment, bench.run, bench.clock)
        await start_workers(guardian, deployment, bench.run, bench.clock, 3)
        return await bench.load(bench.plan()), bench
    finally:
        await guardian.stop()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Bench]:
    """Return lost processes and the bench of one load."""
    return asyncio.run(load_the_runtime(tmp_path_factory.mktemp("runtime")))


def test_every_operation_of_the_runtime_succeeds(loaded: tuple[list[str], Bench]) -> None:
    """Without a fault nothing fails and nothing is left without outcome."""
    lost, bench = loaded
    assert lost == []
    done = operations(bench.history("load-0"))
    assert {"me", "stop", "sign_out", "session_read", "list_tasks", "token_probe"} <= done.keys()
    for op, pairs in done.items():
        assert not [(i, c) for i, c in pairs if c is None or c["k"] != "ok"], op


def test_acknowledged_stops_close_the_providers_streams(loaded: tuple[list[str], Bench]) -> None:
    """The ground truth: every stopped stream was closed early, every chat was finished."""
    _, bench = loaded
    causes = {
        record["stream"]: record["cause"]
        for record in bench.history("provider")
        if record["k"] == "stream" and record["event"] == "close"
    }
    done = operations(bench.history("load-0"))
    stopped = {i["stream"] for i, _ in done["stop"]}
    started = {i["stream"] for i, _ in done["chat_start"]}
    assert stopped
    assert {causes[name] for name in stopped} == {"client_closed"}
    assert {causes[name] for name in started - stopped} == {"finished"}


def test_tokens_cross_workers_whole_and_in_order(loaded: tuple[list[str], Bench]) -> None:
    """What the provider sent for each finished chat reached the user's socket as one run."""
    _, bench = loaded
    runs: dict[str, list[Any]] = {}
    records = bench.history("load-0")
    for record in records:
        if record["k"] == "run":
            runs.setdefault(record["stream"], []).append((record["first"], record["last"]))
    finished = {r["stream"] for r in records if r["k"] == "end" and r["event"] == "done"}
    assert finished
    assert all(runs[name] == [(0, 9)] for name in finished)
