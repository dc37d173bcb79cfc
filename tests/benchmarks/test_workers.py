"""An idle worker: ready within 2 s of its start, at most 130 MiB."""

from __future__ import annotations

import asyncio
import itertools
import signal
from pathlib import Path
from typing import Any

import psutil

from harness.clock import monotonic
from tests.benchmarks.figures import Figures
from tests.benchmarks.parts import start_bench_worker
from tests.live import Live, live

ROUNDS = 5
IDLE_S = 3.0
MIB = 1 << 20


async def _start(parts: Live, number: int) -> tuple[float, float, float]:
    """Start a worker; return the seconds until ready, of them CPU, and its MiB once it idled."""
    began = monotonic()
    worker = await start_bench_worker(parts, f"worker-{number}")
    ready, cpu = monotonic() - began, worker.cpu_s()
    await asyncio.sleep(IDLE_S)  # loops have run, caches are filled
    memory = psutil.Process(worker.process.pid).memory_info().rss / MIB
    worker.process.signal(signal.SIGTERM)
    await worker.process.wait(10)
    return ready, cpu, memory


async def _measure(folder: Path) -> list[tuple[float, float, float]]:
    numbers = itertools.count()
    async with live("standalone", folder) as parts:
        return [await _start(parts, next(numbers)) for _ in range(ROUNDS)]


def test_idle_worker(benchmark: Any, figures: Figures, tmp_path: Path) -> None:
    """With Redis, sessions and the event log; the database is there after the first round."""
    rounds = benchmark.pedantic(lambda: asyncio.run(_measure(tmp_path)), rounds=1)
    figures.note("a worker is ready after", [r[0] for r in rounds], "s", at_most=2.0)
    figures.note("of them on the processor", [r[1] for r in rounds], "s")
    figures.note("an idle worker's memory", [r[2] for r in rounds], "MiB", at_most=130)
