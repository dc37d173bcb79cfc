"""The table of errors: what definitely did not happen, and what nobody knows."""

from __future__ import annotations

import errno

import pytest
import redis.exceptions as r

from harness.history.errors import TABLE, UNKNOWN, classify, find_row, table_markdown
from harness.history.records import FAIL, INFO
from harness.load.socketio_client import ConnectRejected, SocketLost, UpgradeRefused


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 302])
def test_a_declined_request_did_not_happen(status: int) -> None:
    """4xx and 3xx: the application says that it did nothing."""
    outcome, code = classify(status)
    assert outcome == FAIL
    assert code.endswith(f"-{status}")


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_a_broken_request_may_have_happened(status: int) -> None:
    """500, 502, 504 and statuses nobody knows prove nothing."""
    assert classify(status)[0] == INFO


def test_503_is_definite_only_in_the_applications_own_words() -> None:
    """A bare 503 may come from something in between, after the effect."""
    assert classify(503)[0] == FAIL
    assert classify(503, detail=False)[0] == INFO


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), FAIL, "connection-refused"),
        (OSError(errno.EHOSTUNREACH, "no route"), FAIL, "unreachable"),
        (ConnectRejected("no valid token"), FAIL, "socketio-rejected"),
        (UpgradeRefused("HTTP/1.1 503"), FAIL, "upgrade-refused"),
        (TimeoutError("timed out"), INFO, "timeout"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), INFO, "connection-lost"),
        (BrokenPipeError(errno.EPIPE, "pipe"), INFO, "connection-lost"),
        (SocketLost("closed"), INFO, "connection-lost"),
        (ZeroDivisionError("TASK failed"), INFO, "unknown-error"),
    ],
)
def test_socket_errors(error: Exception, outcome: str, code: str) -> None:
    """Refused before sending is definite; anything after sending is not."""
    assert classify(error) == (outcome, code)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (r.MovedError("1 127.0.0.1:1"), FAIL),
        (r.ClusterDownError("CLUSTERDOWN"), FAIL),
        (r.ReadOnlyError("You can't write against a read only replica."), FAIL),
        (r.BusyLoadingError("Redis is loading"), FAIL),
        (r.AuthenticationError("invalid"), FAIL),
        (r.MaxConnectionsError("Too many connections"), FAIL),
        (r.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."), FAIL),
        (r.ConnectionError("Connection closed by server."), INFO),
        (r.TimeoutError("Timeout reading from socket"), INFO),
        (r.RedisClusterException("?"), INFO),
    ],
)
def test_redis_errors_by_redis_pys_own_classes(error: Exception, outcome: str) -> None:
    """What Redis refused did not run; what got no answer may have."""
    assert classify(error)[0] == outcome


@pytest.mark.parametrize("reply", ["MOVED 1 h:1", "CLUSTERDOWN x", "READONLY x", "LOADING x"])
def test_redis_replies_as_text_did_not_run(reply: str) -> None:
    """An error reply alone is enough."""
    assert classify(reply)[0] == FAIL


def test_what_is_not_in_the_table_proves_nothing() -> None:
    """Unknown errors are indefinite: a wrong `fail` would hide a lost write."""
    assert find_row("something else") is UNKNOWN
    assert UNKNOWN.outcome == INFO


def test_the_documentation_has_every_row() -> None:
    """The table in the documentation comes from the table in the code."""
    text = table_markdown()
    assert len({row.code for row in TABLE}) == len(TABLE)
    assert all(f"| `{row.code}` |" in text and row.why in text for row in TABLE)
