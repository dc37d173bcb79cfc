"""What the log says when the sockets' manager is chosen."""

from __future__ import annotations

import logging

import pytest

from runtime.realtime.server import create_manager
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import load_settings

LINE = "Using Redis to manage websockets."


@pytest.mark.parametrize(
    ("manager", "said"), [(None, True), ("redis", True), ("redis-pubsub", True), ("", False)]
)
def test_the_log_tells_that_redis_manages_the_sockets(
    caplog: pytest.LogCaptureFixture, manager: str | None, said: bool
) -> None:
    """Operators look for this line; it appears with a Redis manager, and only then."""
    environ = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    if manager is not None:
        environ["WEBSOCKET_MANAGER"] = manager
    settings = load_settings(environ)
    with caplog.at_level(logging.INFO):
        create_manager(settings, topology_from(settings), Keys("test"), "a")
    assert (LINE in caplog.messages) is said
