"""What OpenTelemetry costs a request: on at 1 % sampling against off, ours and the stock one.

Three workers in one run, in turns: the same request (token, session from Redis) without, with our
thin layer, and with the library's own instrumentation of FastAPI. Traces, metrics and logs go to a
real receiver. Target: at least 0.75 of the throughput.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from harness.deploy.service import clean_environment
from tests.benchmarks.figures import Figures
from tests.benchmarks.http_load import Measured, closed_loop, request_of
from tests.benchmarks.parts import (
    ROOT,
    BenchWorker,
    load_on_core,
    session_of,
    start_bench_worker,
)
from tests.live import Live, live

USERS = 50
SECONDS = 0.7  # short and many: other load on the machine then falls on all alike
ROUNDS = 15
ON = {
    "ENABLE_OTEL": "true",
    "ENABLE_OTEL_METRICS": "true",
    "ENABLE_OTEL_LOGS": "true",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.01",
}
KINDS = {
    "off": {},
    "light": ON,
    "stock": {**ON, "OTEL_INSTRUMENTATION": "stock"},
    "light at 100 %": {**ON, "OTEL_TRACES_SAMPLER_ARG": "1"},
}
Ready = list[tuple[str, BenchWorker, list[bytes]]]


async def _collector(parts: Live) -> str:
    """Start a receiver in a process of its own; return its endpoint."""
    address = f"{parts.deployment.subnet}.4:4317"
    command = [sys.executable, "-m", "tests.otlp", address]
    await parts.guardian.spawn("collector", command, clean_environment(ROOT))
    return f"http://{address}"


async def _workers(parts: Live) -> Ready:
    endpoint = await _collector(parts)
    found = []
    for kind, environ in KINDS.items():
        name = kind.split()[0] + str(len(found))
        more = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if environ else {}
        worker = await start_bench_worker(parts, name, 0, REDIS_KEY_PREFIX=name, **environ, **more)
        users = [await session_of(worker, n) for n in range(USERS)]
        path = "/api/v1/session/data"
        requests = [request_of(worker.host, path, token, cookie) for token, cookie in users]
        found.append((kind, worker, requests))
    return found


async def _measure(folder: Path) -> list[dict[str, Measured]]:
    async with live("standalone", folder) as parts:
        ready = await _workers(parts)
        async with load_on_core(1, parts.deployment.nodes[0].process):
            return [await _round(ready) for _ in range(ROUNDS)]


async def _round(ready: Ready) -> dict[str, Measured]:
    return {kind: await closed_loop(worker, each, SECONDS) for kind, worker, each in ready}


@pytest.mark.timeout(300)
def test_telemetry(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """Telemetry at 1 % sampling costs at most a quarter of the throughput."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = benchmark.pedantic(lambda: runner.run(_measure(tmp_path)), rounds=1)
    for kind in KINDS:
        figures.note(f"requests, telemetry {kind}", [r[kind].per_s for r in rounds], "/s")
        figures.note(f"worker's CPU a request, {kind}", [r[kind].cpu_us for r in rounds], "us")
    for kind, target in (("light", 0.75), ("stock", None), ("light at 100 %", None)):
        cpu = [r["off"].cpu_us / r[kind].cpu_us for r in rounds]
        figures.note(f"worker's CPU, off / {kind}", cpu, "")
        ratio = [r[kind].per_s / r["off"].per_s for r in rounds]
        figures.note(f"telemetry {kind} / off", ratio, "", at_least=target)
