"""A user's mistake, or a missing part, gives one clear message and the right exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.deploy.lease import Lease
from tests.integration.harness_cli import harness, processes_naming, scenario_text


def _scenario(folder: Path, **changes: str) -> Path:
    path = folder / "quick.yaml"
    path.write_text(scenario_text(**changes))
    return path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"topologyy": "sentinel"}, ["unknown key", "did you mean `topology`"]),
        ({"load": "{user: 3}"}, ["load.user", "did you mean `users`"]),
        ({"topology": "ring"}, ["topology", "'standalone', 'sentinel' or 'cluster'"]),
        (
            {"faults": "[{at: 1, kind: kill, target: primry, for_s: 1}]"},
            ["no such role of topology standalone `primry`", "did you mean `primary`"],
        ),
        (
            {"faults": "[{at: 1, kind: kill, target: a-replica, for_s: 1}]"},
            ["no such role of topology standalone `a-replica`"],
        ),
        (
            {"faults": "[{at: 1, kind: latency, latency_ms: 5, workers: 'worker:7', for_s: 1}]"},
            ["no such worker `worker:7`", "worker:0 … worker:1"],
        ),
        (
            {"faults": "[{at: 4, kind: pause, target: primary, for_s: 3}]"},
            ["healed at 7 s, after the load ends"],
        ),
        ({"guarantees": "[stop-ends-tasks]"}, ["no such guarantee", "did you mean"]),
        ({"bounds": "{deaf_times_s: 1}"}, ["no such bound", "did you mean `deaf_time_s`"]),
    ],
)
def test_a_wrong_scenario_names_file_line_and_remedy(
    tmp_path: Path, changes: dict[str, str], expected: list[str]
) -> None:
    """A wrong key, role, bound or time exits 3 and says where and what to do."""
    path = _scenario(tmp_path, **changes)
    done = harness("run", path, "--reports", tmp_path / "reports")
    assert done.returncode == 3, done.stderr
    assert str(path) in done.stderr
    for text in expected:
        assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reports_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where no folder can be made nothing starts: exit 3, the path, and the flag to change."""
    (tmp_path / "file").touch()
    done = harness("run", _scenario(tmp_path), "--reports", tmp_path / "file" / "reports")
    assert done.returncode == 3, done.stdout + done.stderr
    assert str(tmp_path / "file") in done.stderr
    assert "`--reports` names another" in done.stderr
    assert not processes_naming(str(tmp_path))


def test_a_missing_redis_server_is_named(tmp_path: Path) -> None:
    """Without redis-server on the path nothing runs: exit 4, and the message says how to get it."""
    path = _scenario(tmp_path)
    done = harness("run", path, "--reports", tmp_path / "reports", PATH=str(tmp_path))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "redis-server" in done.stdout + done.stderr
    assert "make setup" in done.stdout + done.stderr
    assert not processes_naming(str(tmp_path))


def test_a_missing_toxiproxy_skips_network_faults_by_name(tmp_path: Path) -> None:
    """Without Toxiproxy a scenario with network faults is skipped with the reason: exit 4."""
    path = _scenario(
        tmp_path, faults="[{at: 1, kind: latency, latency_ms: 5, for_s: 1}]", name="needs-links"
    )
    arguments = ("run", path, "--reports", tmp_path / "reports")
    done = harness(*arguments, XDG_CACHE_HOME=str(tmp_path / "cache"), PATH="/usr/bin:/bin")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "needs-links" in done.stdout + done.stderr
    assert "toxiproxy-server" in done.stdout + done.stderr


def test_a_worker_that_dies_at_start_shows_its_last_lines(tmp_path: Path) -> None:
    """A worker that dies at start gives its exit status and last log lines, and nothing stays."""
    program = tmp_path / "dies.py"
    program.write_text("import sys; print('cannot find the moon'); sys.exit(7)\n")
    done = harness(
        *("run", _scenario(tmp_path), "--reports", tmp_path / "reports"),
        *("--target-command", f"{sys.executable} {program}"),
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "cannot find the moon" in done.stderr
    assert "7" in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes_naming(str(tmp_path))


def test_a_subnet_that_is_taken_names_who_has_it(tmp_path: Path) -> None:
    """A subnet that another run leases exits 3 and says what to do."""
    lease = Lease.acquire()
    try:
        done = harness(
            *("run", _scenario(tmp_path), "--reports", tmp_path / "reports"),
            *("--subnet", lease.subnet),
        )
    finally:
        lease.close()
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"subnet {lease.subnet}.0/24 is taken" in done.stderr
    assert "harness clean" in done.stderr


def test_a_subnet_that_is_none_is_explained(tmp_path: Path) -> None:
    """A subnet of another form exits 3 and shows the form."""
    reports = tmp_path / "reports"
    done = harness("run", _scenario(tmp_path), "--reports", reports, "--subnet", "10.0.0")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "such as 127.20.3" in done.stderr
