"""Without an engine, nginx or PostgreSQL: one clear line each, and what needs none of it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness_cli import QUICK, ROOT, environment, processes_naming, scenario_text

HIDE = (  # Debian's folders, which are looked into whatever the path is
    "import sys, pathlib\n"
    "import harness.deploy.balancer as balancer, harness.deploy.postgres as postgres\n"
    "balancer.SYSTEM_FOLDERS, postgres.VERSIONS = '', pathlib.Path('/nowhere')\n"
    "from harness.cli import main\n"
    "main()\n"
)
NEEDED = ("redis-server", "redis-cli", "sh", "env", "setpriv")


def bare(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the harness where only Redis is installed."""
    path = folder / "bin"
    path.mkdir()
    for name in NEEDED:
        for place in os.get_exec_path():
            if (program := Path(place) / name).exists():
                (path / name).symlink_to(program)
                break
    return subprocess.run(
        [sys.executable, "-c", HIDE, *map(str, words)],
        cwd=ROOT,
        env=environment(PATH=str(path), DOCKER_HOST=f"unix://{folder}/no.sock"),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_scenarios_that_need_more_are_skipped_by_name_and_the_rest_runs(tmp_path: Path) -> None:
    """Of four scenarios three are skipped, each with its reason; the last gives the exit code."""
    parts: dict[str, dict[str, str]] = {
        "in-front": {"balancer": "nginx"},
        "on-a-server": {"database": "postgresql"},
        "boxed": {"host": "containers"},
        "plain": {},
    }
    words: list[str | Path] = ["run"]
    for name, keys in parts.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(scenario_text(name=name, **keys))
        words.append(path)
    for key, value in QUICK.items():
        words += ["--set", f"{key}={value}"]
    done = bare(tmp_path, *words, "--reports", tmp_path / "reports")
    said = done.stdout + done.stderr
    skipped = {
        line.split()[1].rstrip(":"): line
        for line in done.stdout.splitlines()
        if line.startswith("SKIPPED")
    }
    assert skipped.keys() == {"in-front", "on-a-server", "boxed"}, said
    assert "`postgres` was not found" in skipped["on-a-server"]
    assert "nginx was not found" in skipped["in-front"]
    assert "no container engine answers" in skipped["boxed"]
    assert (tmp_path / "reports").is_dir(), said
    assert "plain" in done.stdout.rpartition("SKIPPED")[2], said
    assert done.returncode in (0, 1, 2), said  # of the run's own verdict, not 4
    assert not processes_naming(str(tmp_path))


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
