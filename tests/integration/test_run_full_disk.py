"""A disk that fills up in the middle of a run ends the run soon, with one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.waiting import wait_for
from tests.integration.harness_cli import ROOT, command, processes_naming, scenario_text

LOAD_S = 600  # far more than the run may take to end
PATIENCE_S = 120


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 48 MiB that nobody else uses."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "harness-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted: that needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_ends_the_run(disk: Path, tmp_path: Path) -> None:
    """The load does not go on for minutes; exit code 3, one line, and nothing is left running."""
    scenario = tmp_path / "long.yaml"
    scenario.write_text(scenario_text(duration_s=str(LOAD_S)))
    said = tmp_path / "said.txt"
    with said.open("wb") as output:
        run = await asyncio.create_subprocess_exec(
            *command("run", scenario, "--reports", disk), cwd=ROOT, stdout=output, stderr=output
        )
    try:
        await wait_for(lambda: "phase load" in said.read_text(), PATIENCE_S, "the load begins")
        fill(disk)
        await wait_for(lambda: run.returncode is not None, PATIENCE_S, "the run ends")
    finally:
        with contextlib.suppress(ProcessLookupError):
            run.terminate()
        await run.wait()
    lines = [line for line in said.read_text().splitlines() if line.startswith("harness:")]
    assert run.returncode == 3, said.read_text()
    assert len(lines) == 1
    assert "No space left on device. Make room" in lines[0]
    assert str(disk) in lines[0]
    assert not processes_naming(str(disk))
