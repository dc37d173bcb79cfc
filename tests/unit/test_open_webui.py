"""The real Open WebUI as a target: what its workers are told. Running it needs its 1.7 GB."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.deploy.model import Deployment, Link
from harness.errors import UserError
from harness.options import RunOptions
from harness.scenario import Scenario
from harness.targets import choose, get_target
from harness.targets.access import Login, TlsFiles
from harness.targets.base import RedisAccess, WorkerSpec
from harness.targets.choose import make_subject
from harness.targets.open_webui import OpenWebUITarget
from harness.targets.subject import Subject

NODES = (("127.94.1.10", 6379), ("127.94.1.11", 6379))
SENTINELS = (("127.94.1.30", 26379), ("127.94.1.31", 26379))


def told(folder: Path, redis: RedisAccess, number: int = 1, database: str = "") -> dict[str, str]:
    """Return the environment of one worker."""
    spec = WorkerSpec(
        number,
        f"127.94.1.5{number}",
        8080,
        f"worker-{number}",
        redis,
        "http://p/v1",
        str(folder),
        "secret",
        database_url=database,
    )
    return OpenWebUITarget("0.12.4").environment(spec)


def test_the_target_is_named_with_its_version() -> None:
    """One `=` is accepted; without a version the grammar is shown."""
    assert get_target("open-webui=0.12.4").label == "open-webui==0.12.4"
    with pytest.raises(UserError, match=r"--target open-webui: expected NAME==VERSION"):
        get_target("open-webui")
    with pytest.raises(UserError, match="not of `open-webui==0"):
        get_target("open-webui==0.12.4", "python -m x")
    with pytest.raises(UserError, match="`runtime` is the one of this project"):
        get_target("runtime==1.0")


def test_behind_sentinel_the_socket_manager_is_told_too(tmp_path: Path) -> None:
    """Its two Redis clients read different variables."""
    environment = told(tmp_path, RedisAccess("sentinel", NODES, SENTINELS))
    assert environment["REDIS_URL"] == environment["WEBSOCKET_REDIS_URL"]
    assert environment["WEBSOCKET_SENTINEL_HOSTS"] == environment["REDIS_SENTINEL_HOSTS"]
    assert environment["WEBSOCKET_SENTINEL_PORT"] == environment["REDIS_SENTINEL_PORT"] == "26379"


def test_on_a_cluster_both_clients_know_it(tmp_path: Path) -> None:
    """The flag is named like the URL."""
    environment = told(tmp_path, RedisAccess("cluster", NODES))
    assert environment["REDIS_CLUSTER"] == environment["WEBSOCKET_REDIS_CLUSTER"] == "true"


def test_workers_share_the_database_and_nothing_else(tmp_path: Path) -> None:
    """SQLite stands in for PostgreSQL when there is none; files of a worker are its own."""
    redis = RedisAccess("standalone", NODES[:1])
    first, second = told(tmp_path, redis, 0), told(tmp_path, redis, 1)
    assert first["DATABASE_URL"] == second["DATABASE_URL"] == f"sqlite:///{tmp_path / 'webui.db'}"
    assert first["DATA_DIR"] != second["DATA_DIR"]
    assert told(tmp_path, redis, 0, "postgresql://x/y")["DATABASE_URL"] == "postgresql://x/y"


def test_without_the_hook_a_workers_link_is_its_redis() -> None:
    """Each worker gets the address of its own link, so that it can be cut off alone."""
    deployment = Deployment("standalone", OpenWebUITarget("0.12.4"), "127.94.1", hooked=False)
    deployment.links = [
        Link(f"w{n}-redis-0", n, "redis-0", ("127.94.1.2", 20000 + 100 * n), NODES[0])
        for n in (0, 1)
    ]
    assert deployment.access_of(1).nodes == (("127.94.1.2", 20100),)


def test_what_its_sentinel_client_cannot_is_refused(tmp_path: Path) -> None:
    """It sends sentinels the nodes' credentials, and plain text; elsewhere it can do both."""
    target = OpenWebUITarget("0.12.4")
    assert "no credentials for sentinels" in target.refusal("sentinel", "password", "none")
    assert "plain text" in target.refusal("sentinel", "none", "server")
    assert target.refusal("sentinel", "none", "none") == ""
    assert target.refusal("cluster", "acl", "mutual") == ""
    redis = RedisAccess("standalone", NODES[:1], login=Login("", "pw"), tls=TlsFiles("/c/ca.pem"))
    assert told(tmp_path, redis)["WEBSOCKET_REDIS_URL"] == (
        "rediss://:pw@127.94.1.10:6379/0?ssl_ca_certs=/c/ca.pem"
    )


def test_a_secured_sentinel_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is installed; the bundled runtime runs on it."""
    asked = ("sentinel", "open-webui==0.12.4", "", monkeypatch)
    assert "open-webui==0.12.4 has no credentials" in subject(*asked, auth="acl").unsuited
    assert "speaks plain text" in subject(*asked, tls="server").unsuited
    assert subject("sentinel", "runtime", "", monkeypatch, auth="acl", tls="mutual").unsuited == ""


def test_sentinels_at_other_ports_are_left_out(tmp_path: Path) -> None:
    """It knows one port for all of them."""
    sentinels = (("127.94.1.30", 26379), ("127.94.1.30", 26380))
    environment = told(tmp_path, RedisAccess("sentinel", NODES, sentinels))
    assert environment["REDIS_SENTINEL_HOSTS"] == "127.94.1.30"


@pytest.mark.parametrize("purpose", ["events", "tasks", "sessions"])
def test_every_purpose_has_a_key(purpose: str) -> None:
    """Faults of a cluster find the node by it."""
    assert OpenWebUITarget("0.12.4").key(purpose)
    with pytest.raises(UserError, match="no such purpose"):
        OpenWebUITarget("0.12.4").key("nonsense")


def subject(
    topology: str, target: str, refusal: str, monkeypatch: pytest.MonkeyPatch, **redis: str
) -> Subject:
    """Return the subject of a scenario whose redis-py the hook knows, or refuses."""
    monkeypatch.setattr(choose, "hook_refusal", lambda _: refusal)
    monkeypatch.setattr(OpenWebUITarget, "install", lambda *_: sys.executable)
    fields = {"name": "tiny", "story": "A scenario of the tests.", "topology": topology}
    scenario = Scenario.model_validate({**fields, "target": target, "redis": redis})
    return make_subject(scenario, RunOptions(), lambda _: None)


@pytest.mark.parametrize(
    ("topology", "target", "refusal", "hooked", "unsuited"),
    [
        ("standalone", "runtime", "", True, False),
        ("standalone", "runtime", "redis-py 1: gone", False, False),
        ("standalone", "open-webui==0.12.4", "", False, False),
        ("sentinel", "open-webui==0.12.4", "", True, False),
        ("cluster", "open-webui==0.12.4", "redis-py 1: gone", True, True),
    ],
)
def test_the_hook_is_needed_where_addresses_are_announced(
    topology: str,
    target: str,
    refusal: str,
    hooked: bool,
    unsuited: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one server a URL can name the link; elsewhere an unknown redis-py is not testable."""
    made = subject(topology, target, refusal, monkeypatch)
    assert (made.hooked, bool(made.unsuited)) == (hooked, unsuited)
    if unsuited:
        assert made.unsuited == f"not testable on {topology}: {refusal}"
