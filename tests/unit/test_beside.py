"""The comparison of two targets: what is missing, what is recorded, what the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.beside import record, table
from harness.beside.cells import Case, Claim, Comparison, missing, read_comparison
from harness.catalogue import find_scenario
from harness.errors import UserError
from harness.plan import make_plan
from harness.scenario import load_scenario
from harness.vocabulary import check_guarantee

TARGETS = ("open-webui==0.12.4", "runtime")
CASES = tuple(Case("outage-8s", target, {}) for target in TARGETS)
CLAIM = Claim("half of them are lost", "outage-8s", "stop-ends-task")
COMPARISON = Comparison("docs/open-webui.md", TARGETS, CASES, (CLAIM,))


def _run(target: str, seed: int, verdict: str, **late: int) -> record.Run:
    case = Case("outage-8s", target, {})
    quantities = {"stops": 20, "late_or_never": late.get("late", 0), "before_its_stream": 0}
    stops = {"verdict": verdict, "reason": "", "quantities": quantities}
    held = {"verdict": "pass", "reason": "", "quantities": {}}
    findings = {"stop-ends-task": stops, "recovery": held}
    return record.Run(*case.key(seed), verdict, findings, "c0ffee", "2026-11-21", {}, "harness run")


def test_every_case_can_be_planned_and_both_targets_get_the_same_plan() -> None:
    """The names and sizes of plan.yaml are valid; a plan does not depend on who is tested."""
    comparison = read_comparison()
    for scenario in comparison.scenarios:
        cases = [case for case in comparison.cases if case.scenario == scenario]
        assert len({case.content(1) for case in cases}) == 1
        assert cases[0].content(1) != cases[0].content(2)
    for claim in comparison.claims:
        check_guarantee(claim.guarantee)
        assert claim.scenario in comparison.scenarios


def test_only_missing_runs_are_run_round_by_round() -> None:
    """What was recorded is not run again, unless the plan is another one now."""
    done = {CASES[0].key(1), ("outage-8s", "runtime", "0123456789", 1)}
    left = [(case.target, seed) for case, seed in missing(CASES, 2, done)]
    assert left == [("runtime", 1), ("open-webui==0.12.4", 2), ("runtime", 2)]


def test_a_run_is_recorded_once_and_its_repetition_replaces_it(tmp_path: Path) -> None:
    """The record is a set of runs by scenario, target, plan and seed."""
    record.add(tmp_path, [_run("runtime", 1, "unknown"), _run("runtime", 2, "pass")])
    record.add(tmp_path, [_run("runtime", 1, "pass")])
    assert [(run.seed, run.verdict) for run in record.read(tmp_path)] == [(1, "pass"), (2, "pass")]


def test_a_table_counts_verdicts_and_shows_figures_as_ranges() -> None:
    """What broke somewhere has a row with both sides; what held everywhere is named below."""
    runs = [
        _run("open-webui==0.12.4", 1, "fail", late=3),
        _run("open-webui==0.12.4", 2, "fail", late=7),
        _run("open-webui==0.12.4", 3, "pass"),
        _run("runtime", 1, "pass"),
    ]
    said = table.tables(COMPARISON, runs)
    assert "| [outage-8s](../scenarios/outage-8s.yaml) | 2 fail, 1 pass | 1 pass |" in said
    stops = "0 … 7 of 20 lost, 0 before their stream"
    assert f"| stop-ends-task | ✔ 1 of 3, ✖ 2 of 3: {stops} | ✔ 1 of 1: 0 of 20" in said
    assert "{" not in said
    claim = "| half of them are lost | stop-ends-task of outage-8s | ✔ 1 of 3, ✖ 2 of 3"
    assert claim in said
    assert "Held wherever it applies: recovery." in said


def test_a_run_of_another_plan_is_not_shown() -> None:
    """A scenario that was changed since has to be run again."""
    old = record.Run(**{**vars(_run("runtime", 1, "fail")), "content": "0123456789"})
    assert "not run | not run" in table.tables(COMPARISON, [old])


def test_a_run_with_too_little_load_is_counted_and_proves_nothing() -> None:
    """A starved machine makes anything red: what such a run found is in no table."""
    thin = _run("open-webui==0.12.4", 1, "fail", late=9)
    thin.findings["enough-load"] = {"verdict": "unknown", "reason": "1 stops", "quantities": {}}
    said = table.tables(COMPARISON, [thin])
    assert "| [outage-8s](../scenarios/outage-8s.yaml) | 1 proved nothing | not run |" in said
    assert "9 of 20" not in said


def _saved(folder: Path) -> Path:
    """Write the files of a judged run."""
    plan = make_plan(load_scenario(find_scenario("outage-8s")), 1)
    finding: dict[str, Any] = {"verdict": "fail", "reason": "2 lost", "quantities": {"lost": 2}}
    findings = [
        {"name": "canaries-delivered", "applicable": True, "examples": [], **finding},
        {"name": "config-agrees", "applicable": False, "examples": [], **finding},
    ]
    about = {"scenario": "outage-8s", "target": "runtime", "seed": 1, "verdict": "fail"}
    summary = {**about, "findings": findings, "rerun": "harness run outage-8s --seed 1"}
    folder.mkdir()
    (folder / "plan.json").write_bytes(plan.to_json())
    (folder / "run.json").write_bytes(orjson.dumps({"versions": {"redis": "8.0.1", "scipy": "1"}}))
    (folder / "summary.json").write_bytes(orjson.dumps(summary))
    return folder


def test_a_saved_run_is_taken_with_what_applies_to_it(tmp_path: Path) -> None:
    """Its plan is the one of the case; guarantees that do not apply are left out."""
    run = record.take(_saved(tmp_path / "run"))
    assert run.key == Case("outage-8s", "runtime", {}).key(1)
    assert set(run.findings) == {"canaries-delivered"}
    assert run.versions == {"redis": "8.0.1"}


def test_a_folder_without_a_judgement_is_refused(tmp_path: Path) -> None:
    """A run that was interrupted has shown nothing."""
    folder = _saved(tmp_path / "run")
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match="expected a judged run"):
        record.take(folder)
