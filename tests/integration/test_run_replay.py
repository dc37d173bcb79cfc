"""`harness replay`: a real run, then its plan again at the same nodes."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.history.reader import read_history
from tests.integration.harness_cli import harness, only_run, scenario_text


def hits(run: Path) -> list[tuple[str, list[str]]]:
    """Return fault id and nodes of every injection."""
    records = read_history(run / "history")
    return [(r["id"], r["nodes"]) for r in records if r["k"] == "fault" and r["event"] == "inject"]


@pytest.mark.slow
def test_a_replay_runs_the_same_plan_at_the_same_nodes(tmp_path: Path) -> None:
    """Plan and targets are the same; run.json says how to do it once more."""
    scenario, first, second = tmp_path / "quick.yaml", tmp_path / "1", tmp_path / "2"
    fault = "{at: 1, kind: client-pause, target: a-replica, for_s: 1}"
    light = "{users: 4, reads_per_s: 5, chats: {tokens: 5, tokens_per_s: 10}}"
    text = scenario_text(topology="sentinel", faults=f"[{fault}]", duration_s="3", load=light)
    scenario.write_text(text)
    harness("run", scenario, "--reports", first, "--seed", "5")
    saved = only_run(first)
    harness("replay", saved, "--same-nodes", "--reports", second)
    again = only_run(second)
    assert (again / "plan.json").read_bytes() == (saved / "plan.json").read_bytes()
    assert hits(again) == hits(saved) != []
    command = orjson.loads((again / "run.json").read_bytes())["command"]
    assert command == f"harness replay {saved.name} --same-nodes"


def test_a_replay_of_nothing_says_what_there_is(tmp_path: Path) -> None:
    """A wrong name is a user's mistake: one line, exit code 3."""
    done = harness("replay", "nosuch", "--reports", tmp_path)
    assert done.returncode == 3
    assert "no saved run `nosuch`" in done.stderr
