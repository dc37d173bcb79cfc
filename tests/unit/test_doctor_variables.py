"""What the doctor reads from environment files: each mistake is found, and a good file is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.doctor.command import Asked, examine
from harness.doctor.findings import as_json, as_text, by_weight, exit_code, masked
from harness.doctor.replicas import compare
from harness.doctor.variables import App, Environment, judge, read_environment
from harness.errors import UserError

SECRET = "0123456789abcdef0123456789abcdef"
GOOD = {
    "WEBUI_SECRET_KEY": SECRET,
    "REDIS_URL": "redis://app:word@redis:6379/0",
    "REDIS_KEY_PREFIX": "chat",
    "DATABASE_URL": "postgresql://app@db/app",
    "CORS_ALLOW_ORIGIN": "https://chat.example;http://localhost:3000",
    "ENABLE_STAR_SESSIONS_MIDDLEWARE": "true",
    "UVICORN_WORKERS": "2",
}
STOCK = {
    **GOOD,
    "WEBSOCKET_MANAGER": "redis",
    "REDIS_SOCKET_CONNECT_TIMEOUT": "5",
    "VECTOR_DB": "pgvector",
}


def found(values: dict[str, str], app: App = "runtime", replicas: int = 2) -> dict[str, str]:
    """Return name → severity of what one file's variables show."""
    findings = list(judge(Environment("a.env", values, replicas, app)))
    assert all(f.evidence and f.consequence and f.fix for f in findings)
    return {finding.name: finding.severity for finding in findings}


@pytest.mark.parametrize(("values", "app"), [(GOOD, "runtime"), (STOCK, "open-webui")])
def test_a_good_file_has_no_findings(values: dict[str, str], app: App) -> None:
    """What is recommended is not complained about."""
    assert found(values, app) == {}


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        ({"WEBUI_SECRET_KEY": ""}, "secret-missing", "error"),
        ({"WEBUI_SECRET_KEY": "t0p-s3cr3t"}, "secret-short", "warning"),
        ({"REDIS_URL": "", "REDIS_KEY_PREFIX": ""}, "workers-without-redis", "error"),
        ({"WEBSOCKET_MANAGER": ""}, "sockets-in-memory", "error"),
        ({"ENABLE_WEBSOCKET_SUPPORT": "False"}, "polling-only", "warning"),
        ({"REDIS_SOCKET_TIMEOUT": "60"}, "timeout-long", "warning"),
        ({"REDIS_URL": "redis://:word@localhost:6379/0"}, "redis-is-local", "warning"),
        ({"REDIS_URL": "redis://redis:6379/0"}, "redis-without-password", "warning"),
        ({"DATABASE_URL": ""}, "database-is-file", "warning"),
        ({"DATABASE_URL": "sqlite:////shared/a.db"}, "database-is-file", "note"),
        ({"CORS_ALLOW_ORIGIN": "*"}, "any-origin", "warning"),
        ({"CORS_ALLOW_ORIGIN": "https://a.example/"}, "origin-malformed", "error"),
        ({"CORS_ALLOW_ORIGIN": "https://a.example,https://b.example"}, "origin-malformed", "error"),
        ({"CORS_ALLOW_ORIGIN": "a.example"}, "origin-malformed", "error"),
        ({"ENABLE_STAR_SESSIONS_MIDDLEWARE": ""}, "sessions-in-cookies", "note"),
        ({"ENABLE_PERSISTENT_CONFIG": "false"}, "config-not-kept", "note"),
        ({"REDIS_KEY_PREFIX": ""}, "prefix-default", "note"),
    ],
)
def test_each_mistake_is_found(change: dict[str, str], name: str, severity: str) -> None:
    """One finding, of the right weight, and no other."""
    assert found(GOOD | change) == {name: severity}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"WEBSOCKET_MANAGER": "redis", "VECTOR_DB": ""}, {"vectors-in-file"}),
        ({"REDIS_SOCKET_CONNECT_TIMEOUT": ""}, {"timeout-missing"}),
        ({"WEBSOCKET_REDIS_OPTIONS": '{"max_connections": 5}'}, {"socket-timeout-lost"}),
        ({"WEBSOCKET_REDIS_OPTIONS": '{"socket_connect_timeout": 5}'}, set()),
        ({"REDIS_SENTINEL_HOSTS": "a,b,c"}, {"retries-too-few"}),
        (
            {
                "REDIS_SENTINEL_HOSTS": "a,b,c",
                "REDIS_SENTINEL_MAX_RETRY_COUNT": "5",
                "REDIS_RECONNECT_DELAY": "1000",
            },
            set(),
        ),
        ({"WEBSOCKET_MANAGER": "memory"}, {"sockets-in-memory"}),
        ({"ENABLE_PERSISTENT_CONFIG": "false"}, {"config-not-kept"}),
    ],
)
def test_open_webui_has_defaults_of_its_own(change: dict[str, str], names: set[str]) -> None:
    """What it forgets is found only where its defaults count."""
    assert set(found(STOCK | change, "open-webui")) == names


def test_one_process_needs_little() -> None:
    """A single worker may do without Redis, and with a file as database."""
    alone = {**GOOD, "UVICORN_WORKERS": "1", "REDIS_URL": "", "DATABASE_URL": ""}
    assert found(alone, replicas=1) == {}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, set()),
        ({"WEBUI_SECRET_KEY": SECRET[::-1]}, {"secrets-differ"}),
        ({"REDIS_KEY_PREFIX": "other"}, {"prefixes-differ"}),
        ({"REDIS_URL": "redis://app:word@redis:6379/1"}, {"redis-differs"}),
        ({"REDIS_URL": ""}, {"redis-differs"}),
        ({"DATABASE_URL": "postgresql://app@other/app"}, {"databases-differ"}),
        ({"ENABLE_PERSISTENT_CONFIG": "false"}, {"settings-differ"}),
        ({"INSTANCE_ID": "one"}, {"instance-shared"}),
        (
            {"WEBUI_SECRET_KEY": SECRET[::-1], "DATABASE_URL": "postgresql://b@db/b"},
            {"prefix-shared"},
        ),
    ],
)
def test_files_of_replicas_are_compared(change: dict[str, str], names: set[str]) -> None:
    """What has to be alike, and what must not be."""
    base = {**GOOD, "INSTANCE_ID": "one"}
    other = {**GOOD, "INSTANCE_ID": "two", **change}
    findings = list(compare([Environment("a", base), Environment("b", other)]))
    assert {finding.name for finding in findings} == names
    told = as_text(findings)
    assert SECRET not in told
    assert "word" not in told


def test_a_file_is_read_as_shells_and_compose_read_it(tmp_path: Path) -> None:
    """Comments, quotes, `export`, and a dollar sign that stays."""
    path = tmp_path / "a.env"
    path.write_text('# a comment\nexport A="x y"\nB=p$word\nC=\n')
    assert read_environment(path) == {"A": "x y", "B": "p$word", "C": ""}


@pytest.mark.parametrize(("text", "said"), [(None, "no such file"), ("# only", "no variable")])
def test_a_file_that_says_nothing_is_a_mistake(tmp_path: Path, text: str | None, said: str) -> None:
    """The message names the file and what was expected."""
    path = tmp_path / "a.env"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_environment(path)


async def test_offline_looks_at_the_files_alone(tmp_path: Path) -> None:
    """Nobody is asked: the Redis that it names does not exist."""
    path = tmp_path / "a.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in GOOD.items()))
    assert await examine(Asked(env=(path,), offline=True)) == []


async def test_strange_hosts_and_urls_are_refused() -> None:
    """As in runs: this machine, or a host that was allowed by name."""
    with pytest.raises(UserError, match=r"--allow-host 192\.0\.2\.1"):
        await examine(Asked(urls=("http://192.0.2.1:80",)))
    with pytest.raises(UserError, match="expected http://HOST:PORT"):
        await examine(Asked(urls=("127.0.0.1:80",)))


def test_the_worst_comes_first_and_notes_are_no_failure() -> None:
    """Exit code 1 for errors and warnings, 0 for notes; each finding once."""
    values = {**GOOD, "WEBUI_SECRET_KEY": "", "REDIS_KEY_PREFIX": "", "CORS_ALLOW_ORIGIN": "*"}
    findings = by_weight([*judge(Environment("a", values, 2)), *judge(Environment("a", values, 2))])
    assert [f.severity for f in findings] == ["error", "warning", "note"]
    assert [int(exit_code(findings[n:])) for n in (0, 1, 2, 3)] == [1, 1, 0, 0]
    assert as_text(findings).endswith("found: 1 error, 1 warning, 1 note")
    assert '"name":"secret-missing"' in as_json(findings)


def test_credentials_are_masked() -> None:
    """Neither password nor options are shown."""
    assert masked("redis://u:p@h:1/0?x=y") == "redis://h:1/0"
