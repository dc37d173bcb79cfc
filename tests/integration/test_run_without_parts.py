"""Without an engine, nginx, PostgreSQL or Toxiproxy: one clear line each; the rest runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from harness_cli import ROOT, environment, processes_naming, scenario_text

from tests.starved import TRIES, starved

pytestmark = pytest.mark.timeout(300)  # a run on a starved machine is made again, twice
HIDE = (  # Debian's folders, which are looked into whatever the path is
    "import sys, pathlib\n"
    "import harness.deploy.balancer as balancer, harness.deploy.postgres as postgres\n"
    "balancer.SYSTEM_FOLDERS, postgres.VERSIONS = '', pathlib.Path('/nowhere')\n"
    "from harness.cli import main\n"
    "main()\n"
)
NEEDED = ("redis-server", "redis-cli", "sh", "env", "setpriv")
LACKING: dict[str, dict[str, str]] = {
    "in-front": {"balancer": "nginx"},
    "on-a-server": {"database": "postgresql"},
    "boxed": {"host": "containers"},
    "on-links": {"faults": "[{at: 1, kind: latency, latency_ms: 5, for_s: 1}]"},
}
# answers long enough that some are listed while they run: every guarantee has to be judged
PLAIN = {
    "load": "{users: 15, reads_per_s: 5, chats: {tokens: 30, tokens_per_s: 5}}",
    "duration_s": "6",
}


def bare(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the harness where only Redis is installed."""
    path = folder / "bin"
    path.mkdir(exist_ok=True)
    for name in NEEDED:
        for place in os.get_exec_path():
            if (program := Path(place) / name).exists():
                (path / name).unlink(missing_ok=True)
                (path / name).symlink_to(program)
                break
    hidden = {"DOCKER_HOST": f"unix://{folder}/no.sock", "XDG_CACHE_HOME": f"{folder}/cache"}
    return subprocess.run(
        [sys.executable, "-c", HIDE, *map(str, words)],
        cwd=ROOT,
        env=environment(PATH=str(path), **hidden),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Return how five scenarios ended, and the folder of the one that needs only Redis."""
    folder = tmp_path_factory.mktemp("bare")
    for name, keys in {**LACKING, "plain": PLAIN}.items():
        (folder / f"{name}.yaml").write_text(scenario_text(name=name, **keys))
    paths = [folder / f"{name}.yaml" for name in (*LACKING, "plain")]
    for number in range(TRIES):
        reports = folder / str(number)
        done = bare(folder, "run", *paths, "--reports", reports, "--seed", "1")
        runs = list(reports.glob("*-plain"))
        assert len(runs) == 1, done.stdout + done.stderr
        if not starved(orjson.loads((runs[0] / "summary.json").read_bytes())):
            break
    assert not processes_naming(str(folder))
    return done, runs[0]


def test_scenarios_that_need_more_are_skipped_by_name_and_the_rest_runs(
    ran: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Of five scenarios four are skipped, each with its reason; the last gives the exit code."""
    done, _ = ran
    skipped = {
        line.split()[1].rstrip(":"): line
        for line in done.stdout.splitlines()
        if line.startswith("SKIPPED")
    }
    assert skipped.keys() == LACKING.keys(), done.stdout + done.stderr
    assert "`postgres` was not found" in skipped["on-a-server"]
    assert "nginx was not found" in skipped["in-front"]
    assert "no container engine answers" in skipped["boxed"]
    assert "toxiproxy-server" in skipped["on-links"]
    assert "plain" in done.stdout.rpartition("SKIPPED")[2], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr  # of the run's own verdict, not 4


def test_without_toxiproxy_a_scenario_that_needs_no_links_still_runs(
    ran: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """Workers dial Redis directly then, the run says so, and every guarantee is judged."""
    done, run = ran
    said = done.stdout + done.stderr
    assert "Toxiproxy is missing: workers dial Redis directly" in said
    assert orjson.loads((run / "run.json").read_bytes())["links"] is False
    assert orjson.loads((run / "summary.json").read_bytes())["verdict"] == "pass", said


def test_the_doctor_has_one_line_for_each_missing_part(tmp_path: Path) -> None:
    """A warning with the remedy for each; nothing that is needed is missing."""
    done = bare(tmp_path, "doctor")
    lines = {line.split("  ")[1].strip(): line for line in done.stdout.splitlines()}
    for part, remedy in (
        ("nginx", "apt-get install nginx"),
        ("postgresql", "apt-get install postgresql"),
        ("container engine", "start docker"),
    ):
        assert lines[part].startswith("warn"), done.stdout
        assert remedy in lines[part]
    assert done.returncode == 0, done.stdout
