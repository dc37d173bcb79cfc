"""Runs the real command line, and looks for what a run may have left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import psutil

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "duration_s": "5",
    "warmup_s": "1",
    "load.users": "12",
    "enough": "{}",
}


def scenario_text(**changes: str) -> str:
    """Return a scenario file; `changes` replace or add top-level lines, given as YAML."""
    lines = {
        "name": "quick",
        "story": "A quick scenario of the harness's own tests; nothing fails in it.",
        "topology": "standalone",
        "workers": "2",
        "warmup_s": "1",
        "duration_s": "5",
        "load": "{users: 12, reads_per_s: 5, chats: {tokens: 20, tokens_per_s: 10}}",
        "focus": "{stops_per_s: 4, sign_outs_per_s: 2, canaries_per_s: 4}",
        **changes,
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of the harness of this environment."""
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with changes."""
    return {**os.environ, **changes}


def harness(
    *arguments: str | Path, timeout: float = 100, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the harness to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def only_run(reports: Path) -> Path:
    """Return the one run folder in `reports`."""
    runs = [path for path in reports.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(runs) == 1, runs
    return runs[0]


def summary(reports: Path) -> dict[str, object]:
    """Return the summary of the one run in `reports`."""
    data: dict[str, object] = orjson.loads((only_run(reports) / "summary.json").read_bytes())
    return data


def processes_naming(text: str) -> list[str]:
    """Return the command lines of processes that name `text`, this one left out."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if text in line and process.info["pid"] != os.getpid():
            found.append(line)
    return found
