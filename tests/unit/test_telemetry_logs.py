"""Log lines: nothing secret, levels per source, JSON with the ids of the trace, no flood."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import orjson
import pytest

from runtime.telemetry.logs import HIDDEN, JsonFormatter, Seldom, configure, redact, redacted

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.c2lnbmF0dXJl"


@pytest.fixture
def untouched() -> Iterator[None]:
    """Put the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("runtime.redis").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"got {JWT}!", f"got {HIDDEN}!"),
        (f"Authorization: Bearer {JWT}", f"Authorization: Bearer {HIDDEN}"),
        ("redis://me:pass@host:1/0", f"redis://{HIDDEN}@host:1/0"),
        ("redis://:pass@host:1/0", f"redis://{HIDDEN}@host:1/0"),
        ("for a.b+c@mail.example: no", f"for {HIDDEN}: no"),
        ('{"password": "hunter22"}', f'{{"password": "{HIDDEN}"}}'),
        ("$argon2id$v=19$m=1,t=1$abc$def", HIDDEN),
        ("task 3 of w0 at http://host:80/x ended", "task 3 of w0 at http://host:80/x ended"),
    ],
)
def test_secrets_are_hidden(text: str, clean: str) -> None:
    """Tokens, credentials, hashes and addresses go; the rest stays."""
    assert redact(text) == clean


def _record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError(f"token {JWT}")
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("runtime.x", logging.ERROR, "x.py", 1, message, arguments, info)


def test_json_lines_hold_the_exception_without_its_secrets() -> None:
    """One object, parseable, with level, logger, message and error."""
    line = orjson.loads(JsonFormatter().format(_record("user %s", "a@b.example", error=True)))
    assert line["level"] == "ERROR"
    assert line["logger"] == "runtime.x"
    assert line["message"] == f"user {HIDDEN}"
    assert "ValueError" in line["error"]
    assert JWT not in line["error"]


def test_records_for_other_exporters_are_clean_copies() -> None:
    """What leaves by OTLP holds the exception's text, without secrets; the original stays."""
    record = _record("for %s", JWT, error=True)
    clean = redacted(record)
    assert JWT not in clean.getMessage()
    assert "ValueError" in clean.getMessage()
    assert clean.exc_info is None
    assert record.args == (JWT,)


def test_sources_have_levels_of_their_own(untouched: None) -> None:
    """SRC_LOG_LEVELS makes one source louder than the rest."""
    configure("WARNING", {"runtime.redis": "DEBUG"}, "text")
    assert logging.getLogger("runtime.redis.client").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("runtime.tasks.registry").isEnabledFor(logging.INFO)


def test_a_collector_that_is_away_is_logged_seldom() -> None:
    """One record per line of code and period, and only of the loggers named."""
    seldom = Seldom("opentelemetry")
    noisy = logging.LogRecord("opentelemetry.sdk", 40, "x.py", 7, "failed", (), None)
    assert [seldom.filter(noisy) for _ in range(3)] == [True, False, False]
    ours = logging.LogRecord("runtime", 40, "x.py", 7, "failed", (), None)
    assert all(seldom.filter(ours) for _ in range(3))
    assert Seldom("opentelemetry", period_s=0.0).filter(noisy)
