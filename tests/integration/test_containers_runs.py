"""Scenarios that come with the project pass with Redis in containers, as they do on processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.container_parts import made_by_runs_in, networks_and_volumes
from tests.integration.harness_cli import harness, only_run, summary

SCENARIOS = ["sentinel-primary-crash", "one-worker-held"]  # a crash, and links


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_on_containers(scenario: str, engine: Any, tmp_path: Path) -> None:
    """The verdict is what the scenario expects, and it names the command that repeats it there."""
    before = networks_and_volumes(engine)
    done = harness("run", scenario, "--host", "containers", "--quiet", "--reports", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path)["verdict"] == "pass"
    facts = orjson.loads((only_run(tmp_path) / "run.json").read_bytes())
    assert facts["host"] == "containers"
    assert "host=containers" in facts["command"]
    assert not made_by_runs_in(engine, tmp_path)
    assert networks_and_volumes(engine) == before
