"""A part of the harness is killed in the middle of a run: it is void, and the app not blamed."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import orjson
import psutil

from harness.waiting import wait_for_sync
from tests.integration.harness_cli import (
    ROOT,
    command,
    environment,
    harness,
    only_run,
    scenario_text,
    summary,
)

LIGHT = "{users: 4, reads_per_s: 5, chats: {tokens: 8, tokens_per_s: 10}}"
PARTS = {  # name of the part → words of its command line
    "toxiproxy": "toxiproxy-server",
    "load-0": "harness.load.process",
}


def _run(folder: Path, part: str) -> tuple[int, str]:
    """Run a scenario, and kill a part of the harness once the load has begun."""
    scenario, output = folder / "quick.yaml", folder / "output"
    scenario.write_text(scenario_text(load=LIGHT, duration_s="6"))
    arguments = command("run", scenario, "--reports", folder / "reports", "--seed", "1")
    with output.open("wb") as file:
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=file, stderr=file)
    try:
        wait_for_sync(lambda: re.search(r"\bload\b", output.read_text()), 60, "the load begins")
        _child(process.pid, PARTS[part]).send_signal(signal.SIGKILL)
        return process.wait(100), output.read_text()
    finally:
        process.kill()
        process.wait()


def _child(pid: int, words: str) -> psutil.Process:
    """Return the process below the harness that was started with these words."""
    children = psutil.Process(pid).children(recursive=True)
    [found] = [each for each in children if words in " ".join(each.cmdline())]
    return found


def _findings(reports: Path) -> dict[str, dict[str, Any]]:
    found: Any = summary(reports)["findings"]
    return {finding["name"]: finding for finding in found}


def _is_void(code: int, part: str, reports: Path) -> dict[str, dict[str, Any]]:
    """Assert that nothing is red, and that one sentence says which part ended, how and when."""
    found = _findings(reports)
    assert code == 2, found
    assert not [f for f in found.values() if f["verdict"] == "fail"]
    reason = found["harness-alive"]["reason"]
    pattern = rf"{part} ended by itself with status -9 at [\d.]+ s; what broke afterwards is not "
    assert re.match(pattern, reason), reason
    assert found["workers-alive"]["verdict"] == "pass", found["workers-alive"]
    return found


def test_a_proxy_that_ends_voids_the_run(tmp_path: Path) -> None:
    """Without their links no worker reaches Redis: that is unknown, and has its examples.

    Judged again it is void as well; without the record of the proxy's end it would be red.
    """
    reports = tmp_path / "reports"
    code, _ = _run(tmp_path, "toxiproxy")
    found = _is_void(code, "toxiproxy", reports)
    was_red = [f for f in found.values() if "It was red: " in f["reason"]]
    assert any(finding["examples"] for finding in was_red), found
    run = only_run(reports)
    assert harness("check", run).returncode == 2
    history = run / "history" / "harness.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join(line for line in lines if orjson.loads(line)["k"] != "exit"))
    assert harness("check", run).returncode == 1


def test_a_load_process_that_ends_voids_the_run(tmp_path: Path) -> None:
    """Nobody asked the app any more."""
    code, _ = _run(tmp_path, "load-0")
    _is_void(code, "load-0", tmp_path / "reports")
