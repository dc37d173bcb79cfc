"""Runs the scenario of a mutant by the harness's own command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.verdict import ExitCode
from tests.mutants.catalogue import Mutant
from tests.starved import TRIES, starved

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """What a run left: its summary, its exit code, and what it said."""

    summary: dict[str, Any]
    exit_code: int
    said: str


def run(mutant: Mutant, seed: int, reports: Path, broken: bool = True) -> Ran:
    """Run the mutant's scenario; without `broken`, the same with the runtime as it is.

    A run on a starved machine proves nothing and is made again. Skips the test when a part is
    missing that the scenario needs (Toxiproxy).
    """
    for number in range(TRIES):
        ran = _once(mutant, seed, reports / str(number), broken)
        if not starved(ran.summary):
            break
    return ran


def _once(mutant: Mutant, seed: int, reports: Path, broken: bool) -> Ran:
    command = [
        *(sys.executable, "-m", "harness", "run", f"scenarios/{mutant.scenario}.yaml"),
        *("--reports", str(reports), "--seed", str(seed), "--quiet"),
    ]
    if broken:
        command += ["--target-command", f"{sys.executable} -m {mutant.module}"]
    for setting in mutant.settings:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = f"{done.stdout}\n{done.stderr}"
    if done.returncode == ExitCode.MISSING_PART:
        pytest.skip(said.strip())
    summaries = list(reports.glob("20*/summary.json"))
    assert summaries, f"no summary; exit code {done.returncode}\n{said}"
    return Ran(orjson.loads(summaries[0].read_bytes()), done.returncode, said)
