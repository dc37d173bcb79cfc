"""What the load generator costs: against plain Locust, in turns, on the same cheap target.

The target has one core, the generator another. What is recorded must cost little: at least 0.8 of
plain Locust's throughput, records at most 5 % of an operation's processor time, and steps of a
timetable begin on time.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.waiting import wait_for_sync
from tests.benchmarks.figures import Figures
from tests.benchmarks.parts import ROOT, on_core

HOST = "127.95.8.1"
ROUNDS = 5
SECONDS = 4.0
SCHEDULE_S = 10.0
MODULE = "tests.benchmarks"


@pytest.fixture
def target() -> Iterator[str]:
    """Yield the URL of the cheap target, on a core of its own."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", f"{MODULE}.generator_target", HOST, str(port)]
    process = subprocess.Popen(on_core(0, argv), cwd=ROOT)
    try:
        wait_for_sync(lambda: _answers(port), 15, "target answers")
        yield f"http://{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.create_connection((HOST, port), 1):
        return True


def probe(mode: str, folder: Path, url: str, seconds: float) -> dict[str, float]:
    """Return what one turn of the generator measured, on the other core."""
    argv = [sys.executable, "-m", f"{MODULE}.generator_probe", mode, str(folder), url, str(seconds)]
    ended = subprocess.run(
        on_core(1, argv), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, float] = orjson.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(300)
def test_recording_throughput(
    benchmark: Any, figures: Figures, tmp_path: Path, target: str
) -> None:
    """Recording costs at most a fifth of plain Locust's throughput."""

    def turns() -> list[dict[str, dict[str, float]]]:
        return [
            {m: probe(m, tmp_path / f"{m}{n}", target, SECONDS) for m in _order(n)}
            for n in range(ROUNDS)
        ]

    rounds = benchmark.pedantic(turns, rounds=1)
    for mode in ("plain", "recorded"):
        figures.note(f"generator, {mode}", [r[mode]["per_s"] for r in rounds], "/s")
        figures.note(f"generator's CPU, {mode}", [r[mode]["cpu_us"] for r in rounds], "us")
    ratio = [r["recorded"]["per_s"] / r["plain"]["per_s"] for r in rounds]
    figures.note("recorded / plain Locust", ratio, "", at_least=0.8)
    cpu = [r["plain"]["cpu_us"] / r["recorded"]["cpu_us"] for r in rounds]
    figures.note("recorded / plain Locust, by CPU", cpu, "")
    figures.note("records of an operation", [r["record"]["cpu_us"] for r in rounds], "us")
    share = [r["record"]["cpu_us"] / r["recorded"]["cpu_us"] for r in rounds]
    figures.note("records / CPU of an operation", share, "", at_most=0.05)


def _order(number: int) -> tuple[str, ...]:
    """Return the modes of a round, every second round backwards: drift hits both alike."""
    modes = ("plain", "recorded", "record")
    return modes if number % 2 else modes[::-1]


@pytest.mark.timeout(120)
def test_scheduling_error(benchmark: Any, figures: Figures, tmp_path: Path, target: str) -> None:
    """Steps of a timetable at 500/s begin within 5 ms of their time, 99 of 100."""
    found = benchmark.pedantic(
        lambda: probe("schedule", tmp_path / "schedule", target, SCHEDULE_S), rounds=1
    )
    figures.note("late at 500/s, p50", [found["p50_ms"]], "ms")
    figures.note("late at 500/s, p99", [found["p99_ms"]], "ms", at_most=5)
