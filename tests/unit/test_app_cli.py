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


def test_secrets_are_masked() -> None:
    """Neither the signing key nor a password in a URL is printed."""
    code, output = _check(REDIS_URL="redis://user:hunter2@127.0.0.1:6379/0")
    assert code == 0, output
    assert "configuration: ok" in output
    assert "hunter2" not in output
    assert SECRET not in output
