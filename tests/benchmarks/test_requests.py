"""What an authenticated request costs: revocation and session check against the signature alone.

Both on one worker in one run, in turns. Target: at least 0.75 of the throughput. For comparison,
one GET of redis-py (its own client and pool) instead of the checks.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.benchmarks.figures import Figures
from tests.benchmarks.http_load import Measured, closed_loop, request_of
from tests.benchmarks.parts import BenchWorker, load_on_core, session_of, start_bench_worker
from tests.live import live

USERS = 50
SECONDS = 2.0
PATHS = {"full": "/api/v1/session/data", "jwt": "/bench/jwt", "get": "/bench/get"}
NAMES = {"full": "all checks", "jwt": "signature alone", "get": "redis-py GET"}
ROUNDS = 5


async def _measure(folder: Path) -> list[dict[str, Measured]]:
    async with live("standalone", folder) as parts:
        worker = await start_bench_worker(parts, "worker", 0, "tests.benchmarks.bench_worker")
        users = [await session_of(worker, n) for n in range(USERS)]
        async with load_on_core(1, parts.deployment.nodes[0].process):
            return [await _round(worker, users) for _ in range(ROUNDS)]


async def _round(worker: BenchWorker, users: list[tuple[str, str]]) -> dict[str, Measured]:
    found = {}
    for kind, path in PATHS.items():
        requests = [request_of(worker.host, path, token, cookie) for token, cookie in users]
        found[kind] = await closed_loop(worker, requests, SECONDS)
    return found


@pytest.mark.timeout(300)
def test_checked_request(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """The checks cost at most a quarter of the throughput."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = benchmark.pedantic(lambda: runner.run(_measure(tmp_path)), rounds=1)
    for kind, name in NAMES.items():
        figures.note(f"requests, {name}", [r[kind].per_s for r in rounds], "/s")
        figures.note(f"worker's CPU a request, {name}", [r[kind].cpu_us for r in rounds], "us")
    ratio = [r["full"].per_s / r["jwt"].per_s for r in rounds]
    figures.note("all checks / signature alone", ratio, "", at_least=0.75)
    plain = [r["get"].per_s / r["jwt"].per_s for r in rounds]
    figures.note("redis-py GET / signature alone", plain, "")
