"""Finding the Toxiproxy server."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deploy.model import Deployment
from harness.errors import MissingPart
from harness.network.toxiproxy import find_toxiproxy, start_toxiproxy
from harness.targets import get_target


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a machine without Toxiproxy: an empty path and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _install(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text("")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize("name", ["toxiproxy-server", "toxiproxy"])
def test_it_is_found_on_the_path(nowhere: Path, name: str) -> None:
    """Both names that distributions use are known."""
    assert find_toxiproxy() is None
    binary = _install(nowhere / "bin", name)
    assert find_toxiproxy() == binary


def test_it_is_found_in_the_cache(nowhere: Path) -> None:
    """`make setup` puts it there."""
    binary = _install(nowhere / "cache/redis-failover-harness/bin", "toxiproxy-server")
    assert find_toxiproxy() == binary


async def test_a_missing_server_says_how_to_install_it(nowhere: Path) -> None:
    """Nothing is started; the message names both places and `make setup`."""
    deployment = Deployment("standalone", get_target(), "127.94.0")
    with pytest.raises(MissingPart, match=r"on PATH or in .*cache.*make setup"):
        await start_toxiproxy(None, deployment)  # type: ignore[arg-type]  # never used
