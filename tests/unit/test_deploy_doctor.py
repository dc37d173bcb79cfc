"""What the doctor says about this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deploy import doctor
from harness.deploy.host import server_version


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty path and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server_version.cache_clear()
    yield tmp_path
    server_version.cache_clear()


def test_a_machine_that_runs_these_tests_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Every needed part is there, told in one line each; exit code 0."""
    assert doctor.doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.examine())
    assert not [line for line in lines if line.startswith("MISS")]


def test_a_missing_redis_server_has_a_remedy(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without redis-server: exit code 4, and the line says how to get it."""
    assert doctor.doctor() == 4
    [line] = [x for x in capsys.readouterr().out.splitlines() if x.startswith("MISS")]
    assert "redis-server" in line
    assert "apt-get install redis-server" in line


def test_a_missing_toxiproxy_is_only_a_warning(bare: Path) -> None:
    """Runs without network faults need no Toxiproxy."""
    [finding] = [f for f in doctor.examine() if f.part == "toxiproxy-server"]
    assert not finding.ok
    assert not finding.needed
    assert "make setup" in finding.remedy


def test_a_packet_filter_out_of_reach_is_only_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without partitions between nodes need no root."""
    monkeypatch.setattr("harness.network.firewall.missing", lambda: "it wants root")
    [finding] = [f for f in doctor.examine() if f.part == "packet filter"]
    assert not finding.ok
    assert not finding.needed
    assert "no partitions between nodes: it wants root" in finding.detail


def test_a_cache_that_cannot_be_written_is_told(bare: Path) -> None:
    """A file in the cache's place gives the variable to set."""
    (bare / "cache").write_text("")
    [finding] = [f for f in doctor.examine() if f.part == "cache folder"]
    assert not finding.ok
    assert "XDG_CACHE_HOME" in finding.remedy


def test_a_missing_nginx_is_only_a_warning(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without a balancer need no nginx; the line says what is skipped and the remedy."""
    monkeypatch.setattr("harness.deploy.balancer.SYSTEM_FOLDERS", str(bare))
    [finding] = [f for f in doctor.examine() if f.part == "nginx"]
    assert (finding.ok, finding.needed) == (False, False)
    assert "balancer: nginx" in finding.detail
    assert "apt-get install nginx" in finding.remedy
