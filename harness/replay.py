"""A saved run's plan again: the same timed steps, its faults by role or at the recorded nodes."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError

from harness.deploy.folder import RunFolder
from harness.environments.pins import single
from harness.errors import UserError
from harness.faults.base import Aim
from harness.history.reader import HistoryError, read_history
from harness.plan import Plan
from harness.scenario import Scenario


def saved_plan(run: RunFolder) -> Plan:
    """Return the plan of a saved run; raise UserError when its file is damaged."""
    try:
        return Plan.from_json(run.plan.read_bytes())
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{run.plan}: expected the plan of a run, as `harness run` saves it; got "
            f"{type(error).__name__}: {error}"
        ) from error


def saved_scenario(run: RunFolder, plan: Plan) -> Scenario:
    """Return the scenario that a plan was made of; raise UserError when it is no longer valid."""
    try:
        return Scenario.model_validate(plan.scenario)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{run.plan}: scenario.{where}: {problem['msg']}; the run was made by another version "
            "of the harness: run its scenario file again instead"
        ) from error


def saved_choices(run: RunFolder) -> dict[str, Any]:
    """Return the options that decided what was tested: the workers' command and packages."""
    if not (facts := _facts(run)):
        return {}  # a run that ended before it was deployed
    return {
        "target_command": facts.get("target_command"),
        "pins": single(facts.get("with", ())),
    }


def require_ours(run: RunFolder, scenario: Scenario) -> None:
    """Raise UserError for a run on an external deployment: its accounts were not saved."""
    if scenario.target == "external":
        command = _facts(run).get("command", "harness run SCENARIO --url …")
        raise UserError(
            f"{run.root.name} was on an external deployment, whose credentials are not kept; "
            f"run the same plan by `{command}`"
        )


def _facts(run: RunFolder) -> dict[str, Any]:
    """Return run.json, empty when there is none; raise UserError when it is damaged."""
    path = run.root / "run.json"
    try:
        facts = orjson.loads(path.read_bytes()) if path.exists() else {}
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path}: expected what `harness run` saves; {error}") from error
    if not isinstance(facts, dict):
        raise UserError(f"{path}: expected what `harness run` saves; got {facts!r:.40}")
    return facts


def recorded_aims(run: RunFolder, plan: Plan) -> dict[str, Aim]:
    """Return fault id → the nodes and workers that it hit; raise UserError when one is unknown."""
    try:
        aims = {
            str(record["id"]): Aim(list(record["nodes"]), list(record["workers"]))
            for record in read_history(run.history)
            if record["k"] == "fault" and record["event"] == "inject"
        }
    except HistoryError as error:
        raise UserError(f"--same-nodes: {error}") from error
    if missing := [fault.id for fault in plan.faults if fault.id not in aims]:
        raise UserError(
            f"--same-nodes: {run.history} does not say which nodes {', '.join(missing)} hit, "
            "because it was not injected; replay by role, without --same-nodes"
        )
    return aims
