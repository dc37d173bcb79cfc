"""Thin or damaged evidence is `unknown`, exit 2, with the reason; never green.

One real run with a fault is made; each test judges a changed copy of it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.integration.harness_cli import harness, only_run, scenario_text, summary
from tests.starved import TRIES, starved

Line = dict[str, object]
pytestmark = pytest.mark.timeout(300)  # a run on a starved machine is made again, twice


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that passed, with one kill of the only server."""
    folder = tmp_path_factory.mktemp("unknown")
    scenario = folder / "quick.yaml"
    text = scenario_text(
        faults="[{at: 1, kind: kill, target: primary, for_s: 1}]",
        redis="{persistence: aof}",
        bounds="{connections_settle_s: 3}",
        load="{users: 15, reads_per_s: 5, chats: {tokens: 60, tokens_per_s: 10}}",
        duration_s="8",
    )
    scenario.write_text(text)
    for number in range(TRIES):
        reports = folder / str(number)
        done = harness("run", scenario, "--reports", reports, "--seed", "1")
        if not starved(summary(reports)):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return only_run(reports)


def _changed(saved: Path, folder: Path, change: Callable[[Line], Line | None]) -> Path:
    """Copy a run; `change` returns each line of the harness's history anew, or None to drop it."""
    copy = folder / saved.name
    shutil.copytree(saved, copy)
    path = copy / "history" / "harness.jsonl"
    lines = [change(orjson.loads(line)) for line in path.read_bytes().splitlines()]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines if line is not None))
    return copy


def _check(run: Path) -> str:
    """Judge a run again; it must be unknown, in a report as well. Return the reasons."""
    done = harness("check", run)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "UNKNOWN" in done.stdout
    assert "UNKNOWN" in (run / "report.html").read_text().upper()
    findings = orjson.loads((run / "summary.json").read_bytes())["findings"]
    return "\n".join(f["reason"] for f in findings if f["verdict"] == "unknown")


def test_a_saved_run_is_judged_again_with_the_same_verdict(saved_run: Path, tmp_path: Path) -> None:
    """An unchanged copy passes: what the other tests see comes from their change."""
    done = harness("check", _changed(saved_run, tmp_path, lambda line: line))
    assert done.returncode == 0, done.stdout


def test_too_little_load_is_unknown(saved_run: Path, tmp_path: Path) -> None:
    """A minimum load that was not reached voids the verdict, and is named."""
    run = _changed(saved_run, tmp_path, lambda line: line)
    plan = orjson.loads((run / "plan.json").read_bytes())
    plan["scenario"]["enough"] = {"stops": 1000}
    (run / "plan.json").write_bytes(orjson.dumps(plan))
    assert "1000" in _check(run)


def test_a_fault_without_evidence_is_unknown(saved_run: Path, tmp_path: Path) -> None:
    """When nothing confirms that the fault happened, nothing is proven."""

    def unconfirmed(line: Line) -> Line | None:
        return None if line["k"] == "fault" and line.get("event") == "confirm" else line

    assert "fault f0" in _check(_changed(saved_run, tmp_path, unconfirmed))


def test_a_check_that_crashes_is_unknown(saved_run: Path, tmp_path: Path) -> None:
    """A record that a check cannot read makes that check unknown, and the reason says so."""

    def maimed(line: Line) -> Line:
        if line["k"] == "canary":
            del line["origin"]
        return line

    assert "check crashed" in _check(_changed(saved_run, tmp_path, maimed))


def test_a_damaged_history_is_unknown(saved_run: Path, tmp_path: Path) -> None:
    """A broken line in the middle of a file is named, and the verdict is unknown."""
    run = _changed(saved_run, tmp_path, lambda line: line)
    path = run / "history" / "harness.jsonl"
    lines = path.read_bytes().splitlines()
    lines[5] = lines[5][:20]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert "harness.jsonl:6" in _check(run)
