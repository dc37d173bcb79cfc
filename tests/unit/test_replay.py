"""What a replay reads out of a saved run."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.deploy.folder import RunFolder
from harness.environments.pins import Pin
from harness.errors import UserError
from harness.faults.base import Aim
from harness.plan import Plan, make_plan
from harness.replay import (
    recorded_aims,
    require_ours,
    saved_choices,
    saved_plan,
    saved_scenario,
)
from harness.scenario import Scenario

SCENARIO = Scenario.model_validate(
    {
        "name": "two-faults",
        "story": "Two kills, one after the other, of whoever is primary.",
        "topology": "sentinel",
        "faults": [{"kind": "kill", "target": "primary", "at": at, "for_s": 2} for at in (1, 8)],
    }
)


def save(root: Path, *hit: tuple[str, str]) -> tuple[RunFolder, Plan]:
    """Save a run whose faults hit nodes; return it and its plan."""
    run, plan = RunFolder.create(root), make_plan(SCENARIO, 7)
    run.plan.write_bytes(plan.to_json())
    lines = [{"k": "header", "t": 0.0, "source": "harness", "base": 0.0, "wall": 0.0}]
    lines += [
        {"k": "fault", "t": 1.0, "id": i, "event": "inject", "nodes": [node], "workers": []}
        for i, node in hit
    ]
    path = run.history / "harness.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return run, plan


def test_the_plan_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """Same steps, same bytes, and a scenario that is still valid."""
    run, plan = save(tmp_path)
    assert saved_plan(run).to_json() == plan.to_json()
    assert saved_scenario(run, plan) == SCENARIO


def test_aims_are_what_each_fault_hit(tmp_path: Path) -> None:
    """One role, two nodes: after the first failover the primary is another one."""
    run, plan = save(tmp_path, ("f0", "redis-0"), ("f1", "redis-2"))
    assert recorded_aims(run, plan) == {"f0": Aim(["redis-0"], []), "f1": Aim(["redis-2"], [])}


def test_a_fault_that_hit_nobody_cannot_hit_the_same_again(tmp_path: Path) -> None:
    """The message names the fault and the way out."""
    run, plan = save(tmp_path, ("f0", "redis-0"))
    with pytest.raises(UserError, match=r"f1 hit.*without --same-nodes"):
        recorded_aims(run, plan)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    """Half a file is no plan."""
    run, plan = save(tmp_path)
    run.plan.write_bytes(plan.to_json()[:100])
    with pytest.raises(UserError, match=r"plan\.json: expected the plan of a run"):
        saved_plan(run)


def test_the_target_command_of_the_run_is_used_again(tmp_path: Path) -> None:
    """A replay of a mutant's run runs the mutant."""
    run, _ = save(tmp_path)
    assert saved_choices(run) == {}
    (run.root / "run.json").write_bytes(
        orjson.dumps({"target_command": "python -m mutant", "with": ["redis==8.0.0"]})
    )
    pins = (Pin("redis", "8.0.0"),)
    assert saved_choices(run) == {"target_command": "python -m mutant", "pins": pins}


@pytest.mark.parametrize("damaged", ["[1", "[]", "7", ""])
def test_a_damaged_run_file_is_named(tmp_path: Path, damaged: str) -> None:
    """A run.json that was cut short is the run's, not the harness's, fault: its path is told."""
    run, _ = save(tmp_path)
    (tmp_path / "run.json").write_text(damaged)
    with pytest.raises(UserError, match=r"run\.json: expected what `harness run` saves"):
        saved_choices(run)


def test_an_external_run_without_its_file_is_still_refused(tmp_path: Path) -> None:
    """Who ran an external deployment and ended it early is told how to run it again."""
    run, _ = save(tmp_path)
    external = SCENARIO.model_copy(update={"target": "external"})
    with pytest.raises(UserError, match="credentials are not kept; run the same plan by"):
        require_ours(run, external)
