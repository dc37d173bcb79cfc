"""The harness can fail: every mutant is caught by the guarantee that it breaks, and by no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).resolve().parents[2]


def _run(mutant: Mutant, seed: int, reports: Path) -> dict[str, Any]:
    """Run the mutant's scenario and return its summary."""
    command = [
        *(sys.executable, "-m", "harness", "run", f"scenarios/{mutant.scenario}.yaml"),
        *("--target-command", f"{sys.executable} -m {mutant.module}"),
        *("--reports", str(reports), "--seed", str(seed), "--quiet"),
    ]
    for setting in mutant.settings:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    summaries = list(reports.glob("20*/summary.json"))
    assert summaries, f"no summary; exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    summary: dict[str, Any] = orjson.loads(summaries[0].read_bytes())
    assert done.returncode == summary["exit_code"], done.stderr
    return summary


@pytest.mark.timeout(180)
def test_mutant_is_caught(mutant: Mutant, seed: int, tmp_path: Path) -> None:
    """The guarantee that the mutant breaks is red, and nothing unrelated is."""
    summary = _run(mutant, seed, tmp_path)
    findings = {f["name"]: f for f in summary["findings"] if f["applicable"]}
    red = {name for name, f in findings.items() if f["verdict"] == "fail"}
    unrelated = red - mutant.must - mutant.may
    assert not unrelated, {name: findings[name]["reason"] for name in unrelated}
    assert mutant.must <= red, {name: findings[name] for name in mutant.must - red}
    assert summary["verdict"] == "fail"
