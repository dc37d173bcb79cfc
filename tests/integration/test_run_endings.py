"""However a run ends, nothing that it started stays, and the exit code says how it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from harness.waiting import wait_for_sync
from tests.integration.harness_cli import (
    ROOT,
    command,
    environment,
    processes_naming,
    scenario_text,
)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return the file of a quick scenario on Sentinel: many processes to clean up."""
    path = tmp_path / "quick.yaml"
    load = "{users: 4, reads_per_s: 5, chats: {tokens: 5, tokens_per_s: 10}}"
    path.write_text(scenario_text(topology="sentinel", load=load, duration_s="3"))
    return path


def _start(scenario: Path, output: Path) -> subprocess.Popen[bytes]:
    arguments = ("run", scenario, "--reports", scenario.parent / "reports")
    with output.open("wb") as file:
        return subprocess.Popen(
            command(*arguments), cwd=ROOT, env=environment(), stdout=file, stderr=file
        )


def _wait_for_phase(output: Path, phase: str) -> None:
    pattern = re.compile(rf"\b{phase}\b")
    wait_for_sync(lambda: pattern.search(output.read_text()), 60, f"phase {phase} of the run")


def _nothing_left(folder: Path) -> bool:
    return not processes_naming(str(folder))


@pytest.mark.parametrize("phase", ["deploy", "prepare", "load", "judge"])
def test_ctrl_c_cleans_up_in_every_phase(scenario: Path, tmp_path: Path, phase: str) -> None:
    """Ctrl-C exits 130 with one line and leaves nothing running, whatever the phase."""
    output = tmp_path / "output"
    process = _start(scenario, output)
    try:
        _wait_for_phase(output, phase)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130, output.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in output.read_text()
    assert "interrupted" in output.read_text()
    wait_for_sync(lambda: _nothing_left(tmp_path), 10, "everything of the run to be gone")


def test_sigkill_of_the_harness_leaves_nothing(scenario: Path, tmp_path: Path) -> None:
    """After SIGKILL of the harness the guardian ends every process, and the history is readable."""
    output = tmp_path / "output"
    process = _start(scenario, output)
    _wait_for_phase(output, "load")
    assert len(processes_naming(str(tmp_path))) > 6
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_sync(lambda: _nothing_left(tmp_path), 15, "everything of the run to be gone")
    histories = list((tmp_path / "reports").glob("*/history/*.jsonl"))
    assert any(path.stat().st_size > 1000 for path in histories), histories
