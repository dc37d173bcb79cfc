"""A tiny sweep with real parts: interrupted, gone on with, thin data refused, all reported."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import orjson
import pytest

from harness.capacity.cpus import allowed
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.spawner import Guardian
from harness.waiting import wait_for_sync
from tests.integration.harness_cli import ROOT, command, environment, harness, processes_naming

TINY = (
    *("--workers", "1", "--loads", "4,8", "--seconds", "3", "--failover", "0"),
    *("--set", "warmup_s=1", "--set", "load.chats.tokens=10", "--set", "load.think_s=[0.2,0.5]"),
)


def _start(reports: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = ("capacity", *TINY, "--reports", reports)
    with output.open("wb") as file:
        return subprocess.Popen(
            command(*arguments), cwd=ROOT, env=environment(), stdout=file, stderr=file
        )


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(tmp_path: Path) -> None:
    """One point is reported with 130; the other follows, and two loads are too few for a law."""
    output = tmp_path / "output"
    process = _start(tmp_path / "reports", output)
    try:
        wait_for_sync(lambda: "8 users (point 2" in output.read_text(), 90, "the second point")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "--resume" in output.read_text()
    (folder,) = (tmp_path / "reports").iterdir()
    wait_for_sync(lambda: not processes_naming(str(tmp_path)), 15, "everything to be gone")
    assert _loads(folder) == [4]
    assert "Interrupted after 1 of 2 points" in (folder / "capacity.html").read_text()
    _goes_on(folder)


def _goes_on(folder: Path) -> None:
    done = harness("capacity", "--resume", folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "point 2 of 2" in done.stderr
    assert _loads(folder) == [4, 8]
    data = orjson.loads((folder / "capacity.json").read_bytes())
    (series,) = data["series"]
    assert "got 2" in series["law_refused"]
    assert "Interrupted" not in data["incomplete"]
    assert series["connections_per_worker"] >= 2
    for point in series["points"]:
        assert point["operations"] > 0
        assert point["worker_cpu"] > 0
        assert point["other_cpu"] > point["redis_cpu"] > 0
        assert point["worker_rss"] > 1 << 24
        assert point["sockets"] == point["key"]["users"]


def _loads(folder: Path) -> list[int]:
    data = orjson.loads((folder / "capacity.json").read_bytes())
    return [point["key"]["users"] for series in data["series"] for point in series["points"]]


@pytest.mark.skipif(len(allowed()) < 2, reason="needs two processors")
async def test_a_process_runs_on_the_processors_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its threads do, also those that it starts at once; others run anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    guardian = await Guardian.start(RunFolder.create(tmp_path / "run"), Lease.acquire())
    try:
        last = allowed()[-1]
        bound = await guardian.spawn("bound", ["sleep", "60"], {}, cpus=(last,))
        free = await guardian.spawn("free", ["sleep", "60"], {})
        assert os.sched_getaffinity(bound.pid) == {last}
        assert os.sched_getaffinity(free.pid) == set(allowed())
    finally:
        await guardian.stop()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--workers", "none"), "--workers none: expected whole numbers above 0"),
        (("--objective", "fast"), "--objective fast: expected such as p95=300ms,errors=0.1%"),
        (("--worker-cpus", "99"), "processor 99 is not available here"),
        (("--resume", "nowhere"), "expected the folder of a sweep"),
        (("--set", "load.usrs=3"), "no such key"),
        (("--scenario", "worker-crash"), "expected one without faults, got 1"),
        (("--set", "duration_s=2"), "fault"),  # of the failover's run, at the end of the sweep
    ],
)
def test_mistakes_are_told_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    """Exit code 3, one message, and no folder."""
    done = harness("capacity", *arguments, "--reports", tmp_path / "reports")
    assert done.returncode == 3
    assert expected in done.stderr
    assert not (tmp_path / "reports").exists()
