"""Load that changes, and latency from the planned start, against a small target."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from load_bench import Bench, open_bench, operations

from harness.checks.latency import Latencies
from harness.waiting import wait_for

STALL_S = 2.0
RATE, CONNECTIONS, WORKERS = 100, 4, 3


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench whose processes are gone afterwards."""
    async with open_bench(tmp_path) as made:
        yield made


async def stalled(bench: Bench) -> tuple[float, float]:
    """Load the target and stop it for a while; return from when to when, in run seconds."""
    plan = bench.plan(duration_s=5.0, reads_per_s=RATE, connections=CONNECTIONS)
    load = await bench.start(plan)
    await load.ready(30)
    t0 = bench.clock.now() + 0.2
    load.go(t0)
    await asyncio.sleep(t0 + 1.5 - bench.clock.now())
    bench.target.signal(signal.SIGSTOP)
    begin = bench.clock.now()
    await asyncio.sleep(STALL_S)
    end = bench.clock.now()
    bench.target.signal(signal.SIGCONT)
    assert await load.finished(40) == []
    return begin, end


async def test_a_stalled_target_is_felt_by_those_who_queue(bench: Bench) -> None:
    """The target stops for 2 s: what was due meanwhile has the rest of the stall as latency.

    Raw latency, from the real send, shows the stall for no more than the open connections.
    """
    await bench.start_target()
    begin, end = await stalled(bench)
    latencies = Latencies()
    reads = [pair for pair in operations(bench.history("load-0"))["me"] if "scheduled" in pair[0]]
    assert all(done and done["k"] == "ok" for _, done in reads)
    for asked, done in reads:
        latencies.take({**done, "invoke": asked})
    queued = [(a, d) for a, d in reads if begin + 0.2 < a["scheduled"] < end]
    assert len(queued) > 0.6 * STALL_S * RATE
    felt = [done["t"] - asked["scheduled"] for asked, done in queued]
    assert all(s >= end - a["scheduled"] for s, (a, _) in zip(felt, queued, strict=True))
    sent = [done["t"] - done.get("sent", asked["t"]) for asked, done in queued]
    half = STALL_S / 2
    assert sum(s > half for s in sent) <= CONNECTIONS * WORKERS < sum(s > half for s in felt)
    row = next(r for r in latencies.table(0, []) if r["op"] == "me")
    assert row["corrected"]["p90_ms"] > 3 * row["raw"]["p90_ms"]


async def test_users_come_and_leave_as_planned(bench: Bench) -> None:
    """Four more users for a second: they connect, chat, and are gone again; two stay."""
    await bench.start_target()
    shape = [{"for_s": 1.5, "users": 6}, {"for_s": 2.5, "users": 2}]
    plan = bench.plan(duration_s=4.0, users=2, processes=2, shape=shape)
    assert await bench.load(plan) == []
    records = [*bench.history("load-0"), *bench.history("load-1")]
    done = operations(records)
    assert {i["user"] for i, _ in done["connect"]} == set(range(6))
    assert {i["user"] for i, _ in done["chat_start"]} == set(range(6))
    closed = {r["socket"]: r["t"] for r in records if r["k"] == "socket" and r["event"] == "closed"}
    stayed = min(closed[name] for name in ("u0-0", "u1-0"))
    assert all(closed[f"u{user}-0"] < stayed for user in range(2, 6))
    users = [r["users"] for r in records if r["k"] == "sample"]
    assert max(users) > users[-1]


async def test_a_load_process_that_dies_is_lost(bench: Bench) -> None:
    """One of two is killed in the middle: named at once, and its exit is in the history."""
    await bench.start_target()
    load = await bench.start(bench.plan(duration_s=3.0, processes=2))
    await load.ready(30)
    load.go(bench.clock.now() + 0.1)
    await wait_for(lambda: load.status()["ops"] > 10, 15, "some operations done")
    load._processes[1].signal(signal.SIGKILL)
    assert await load.finished(40) == ["load-1"]
    exits: list[dict[str, Any]] = [r for r in bench.history("load") if r["k"] == "exit"]
    assert {r["name"]: r["expected"] for r in exits} == {"load-0": True, "load-1": False}


async def test_a_load_that_the_harness_ends_did_not_end_by_itself(bench: Bench) -> None:
    """It had its time and is lost, but no part of the harness died: what is red stays red."""
    await bench.start_target()
    load = await bench.start(bench.plan(duration_s=30.0))
    await load.ready(30)
    load.go(bench.clock.now() + 0.1)
    await wait_for(lambda: load.status()["ops"] > 10, 15, "some operations done")
    await load.finished(0.1)
    [ended] = [r for r in bench.history("load") if r["k"] == "exit"]
    assert (ended["name"], ended["expected"]) == ("load-0", True)
