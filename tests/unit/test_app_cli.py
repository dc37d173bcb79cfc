"""The runtime's command line explains a wrong variable and shows no secret."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from runtime.cli import main

SECRET = "0123456789abcdef0123456789abcdef"


def _check(**environ: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        main, ["check", "--offline"], env={"WEBUI_SECRET_KEY": SECRET, **environ}
    )
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("REDIS_URL", "http://x", "unknown scheme `http`; write redis://"),
        ("REDIS_SOCKET_CONNECT_TIMEOUT", "5000", "can only be milliseconds"),
        ("UVICORN_WORKERS", "3", "REDIS_URL"),
        ("WEBSOCKET_REDIS_URL", "ftp://x", "unknown scheme `ftp`"),
        ("WEBUI_SECRET_KEY", "", "is not set"),
    ],
)
def test_a_wrong_variable_is_explained(variable: str, value: str, said: str) -> None:
    """Exit 3, the variable's name, and what to write instead; no traceback."""
    code, output = _check(**{variable: value})
    assert code == 3, output
    assert said in output
    assert "Traceback" not in output


def _acl(**environ: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["acl"], env={"WEBUI_SECRET_KEY": SECRET, **environ})
    return done.exit_code, done.output


def test_the_rules_of_a_configuration_are_printed() -> None:
    """One user on the nodes, one on the sentinels, under the names of the configuration."""
    code, output = _acl(
        REDIS_URL="redis://me:hunter2@mymaster/3",
        REDIS_SENTINEL_HOSTS="a,b",
        REDIS_KEY_PREFIX="chat",
        WEBSOCKET_MANAGER="redis-pubsub",
    )
    assert code == 0, output
    nodes, sentinels = output.strip().splitlines()
    assert nodes.startswith("ACL SETUSER me on >PASSWORD resetkeys")
    assert {"~chat:*", "+select", "+hello"} <= set(nodes.split())
    assert sentinels.startswith("ACL SETUSER watcher on >PASSWORD ")
    assert "+sentinel|masters" in sentinels
    assert "hunter2" not in output


def test_a_cluster_has_rules_of_its_own() -> None:
    """And without Redis there are none."""
    code, output = _acl(REDIS_URL="redis://a", REDIS_CLUSTER="true")
    assert code == 0, output
    assert "+cluster|nodes +asking" in output
    assert len(output.strip().splitlines()) == 1
    code, output = _acl()
    assert code == 3
    assert "REDIS_URL: is not set" in output


def test_secrets_are_masked() -> None:
    """Neither the signing key nor a password in a URL is printed."""
    code, output = _check(REDIS_URL="redis://user:hunter2@127.0.0.1:6379/0")
    assert code == 0, output
    assert "configuration: ok" in output
    assert "hunter2" not in output
    assert SECRET not in output
