"""`harness ci`: real runs, one JUnit file, one summary with a picture."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from junitparser import JUnitXml

from tests.integration.harness_cli import command, environment, scenario_text

LIGHT = "{users: 4, reads_per_s: 5, chats: {tokens: 5, tokens_per_s: 10}}"


def ci(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a folder of its own."""
    return subprocess.run(
        command("ci", *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.slow
def test_a_job_of_two_scenarios(tmp_path: Path) -> None:
    """One expects what happens, the other does not fit the budget; both are in the files."""
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    quick = scenario_text(
        name="ci-a", tags="[ci-test]", guarantees="[workers-alive]", duration_s="2", load=LIGHT
    )
    (scenarios / "ci-a.yaml").write_text(quick)
    slow = scenario_text(name="ci-b", tags="[ci-test]", duration_s="500")
    (scenarios / "ci-b.yaml").write_text(slow)
    done = ci(tmp_path, "--tags", "ci-test", "--budget", "3m", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = (tmp_path / "reports").glob("ci-*")
    text = (folder / "summary.md").read_text()
    assert "1 passed, 1 skipped" in text
    assert "![ci-a](timeline.svg)" in text
    assert (folder / "timeline.svg").read_text().startswith("<svg xmlns=")
    suites = {suite.name: suite for suite in JUnitXml.fromfile(str(folder / "junit.xml"))}
    assert suites.keys() == {"ci-a", "ci-b"}
    assert (suites["ci-a"].failures, suites["ci-b"].skipped) == (0, 1)


def test_a_tag_that_nobody_has_is_a_mistake(tmp_path: Path) -> None:
    """One line with the tags that there are; exit code 3."""
    done = ci(tmp_path, "--tags", "nosuch")
    assert done.returncode == 3
    assert "--tags nosuch: no scenario has it; known tags: " in done.stderr
