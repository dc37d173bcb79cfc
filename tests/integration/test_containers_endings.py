"""However a run on containers ends, the engine holds what it held before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.deploy import sweeper
from harness.waiting import wait_for_sync
from tests.integration.container_parts import made_by_runs_in, networks_and_volumes
from tests.integration.harness_cli import (
    ROOT,
    command,
    environment,
    harness,
    processes_naming,
    scenario_text,
)

PARTS = 9  # the pod, three nodes, three sentinels, Toxiproxy, nginx


class Run:
    """A quick run with all parts in containers, and what the engine held before it."""

    def __init__(self, engine: Any, folder: Path, images: dict[str, str]) -> None:
        self.engine = engine
        self.folder = folder
        self.before = networks_and_volumes(engine)
        self.output = folder / "output"
        self.scenario = folder / "quick.yaml"
        self.scenario.write_text(
            scenario_text(
                topology="sentinel",
                host="containers",
                balancer="nginx",
                images=json.dumps(images),
                guarantees="[canaries-delivered]",
            )
        )
        with self.output.open("wb") as file:
            arguments = ("run", self.scenario, "--reports", folder / "reports")
            self.process = subprocess.Popen(
                command(*arguments), cwd=ROOT, env=environment(), stdout=file, stderr=file
            )

    def reach(self, phase: str) -> None:
        """Wait for a phase of the run."""
        pattern = re.compile(rf"\b{phase}\b")
        wait_for_sync(lambda: pattern.search(self.output.read_text()), 60, f"phase {phase}")

    def started(self) -> list[Any]:
        """Return the containers of this run."""
        return made_by_runs_in(self.engine, self.folder)

    def guardian(self) -> int:
        """Return the pid of the run's guardian, from the label of its containers."""
        owner: str = self.started()[0].labels[sweeper.OWNER]
        return int(owner.split("-")[1])

    def nothing_is_left(self, deadline: float) -> None:
        """Wait until the engine holds what it held before, other runs aside."""
        wait_for_sync(lambda: not self.started(), deadline, "no container of the run is left")
        assert networks_and_volumes(self.engine) == self.before

    def close(self) -> None:
        """End the harness, whatever the test did; its guardian does the rest."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def run(engine: Any, images: dict[str, str], tmp_path: Path) -> Iterator[Run]:
    """Yield a run that has just begun."""
    begun = Run(engine, tmp_path, images)
    yield begun
    begun.close()


def test_a_run_that_ends_well_leaves_nothing(run: Run) -> None:
    """Pod, servers and proxies run while it lasts; run.json says from which images."""
    run.reach("load")
    assert len(run.started()) == PARTS
    assert run.process.wait(90) == 0, run.output.read_text()
    run.nothing_is_left(1)
    [facts] = (run.folder / "reports").glob("*-quick/run.json")
    told = json.loads(facts.read_bytes())
    assert told["host"] == "containers"
    assert set(told["images"]) == {"redis", "toxiproxy", "nginx"}
    assert not processes_naming(str(run.folder))


@pytest.mark.parametrize("phase", ["deploy", "prepare", "load"])
def test_ctrl_c_leaves_nothing(run: Run, phase: str) -> None:
    """Ctrl-C exits 130 with one line, also while containers are being made."""
    run.reach(phase)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(40) == 130, run.output.read_text()
    assert "Traceback" not in run.output.read_text()
    run.nothing_is_left(1)


@pytest.mark.parametrize("phase", ["deploy", "load"])
def test_sigkill_of_the_harness_leaves_nothing(run: Run, phase: str) -> None:
    """The guardian removes the containers, those that the engine was just asked for as well."""
    run.reach(phase)
    if phase == "deploy":
        wait_for_sync(run.started, 20, "the first container")
    run.process.kill()
    run.process.wait()
    run.nothing_is_left(20)


def test_clean_removes_what_a_killed_guardian_left(run: Run) -> None:
    """Without harness and guardian the containers go on until `harness clean`."""
    run.reach("load")
    os.kill(run.guardian(), signal.SIGKILL)
    run.process.kill()
    run.process.wait()
    assert len(run.started()) == PARTS
    done = harness("clean")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"removed {PARTS} containers" in done.stdout
    run.nothing_is_left(1)


def test_clean_spares_a_living_run(run: Run) -> None:
    """A run whose guardian lives keeps its containers, and passes."""
    run.reach("load")
    assert "containers" not in harness("clean").stdout
    assert run.process.wait(90) == 0, run.output.read_text()


def test_a_failed_start_leaves_nothing(engine: Any, tmp_path: Path) -> None:
    """A server that refuses its settings shows why, and its neighbours are removed."""
    scenario, before = tmp_path / "quick.yaml", networks_and_volumes(engine)
    settings = "{config: {no-such-setting: '1'}}"
    scenario.write_text(scenario_text(topology="cluster", host="containers", redis=settings))
    done = harness("run", scenario, "--reports", tmp_path / "reports")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no-such-setting" in done.stderr
    assert "Traceback" not in done.stderr
    assert not made_by_runs_in(engine, tmp_path)
    assert networks_and_volumes(engine) == before
