"""Scenarios pass with Redis, and with Toxiproxy and nginx too, in containers, as on processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.container_parts import made_by_runs_in, networks_and_volumes
from tests.integration.harness_cli import harness, only_run, scenario_text, summary
from tests.starved import TRIES, starved

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


@pytest.mark.slow
def test_all_parts_in_containers(engine: Any, images: dict[str, str], tmp_path: Path) -> None:
    """Slow links and a restarted nginx have their evidence; no guarantee breaks."""
    scenario, before = tmp_path / "quick.yaml", networks_and_volumes(engine)
    scenario.write_text(
        scenario_text(
            host="containers",
            images=orjson.dumps(images).decode(),
            balancer="nginx",
            duration_s="15",
            load="{users: 15, reads_per_s: 10, chats: {tokens: 60, tokens_per_s: 10}}",
            bounds="{connections_settle_s: 3}",
            faults="[{at: 1, kind: balancer, action: reload}, "
            "{at: 3, kind: balancer, action: restart, for_s: 1}, "
            "{at: 6, kind: latency, latency_ms: 50, for_s: 2}]",
        )
    )
    for number in range(TRIES):
        reports = tmp_path / str(number)
        done = harness("run", scenario, "--reports", reports, "--seed", "1")
        if not starved(summary(reports)):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(reports)
    assert images["nginx"] in orjson.loads((run / "run.json").read_bytes())["balancer"]
    assert not made_by_runs_in(engine, tmp_path)
    assert networks_and_volumes(engine) == before
