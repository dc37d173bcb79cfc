"""The stock pub/sub manager of python-socketio, selectable for comparison.

It loses what is emitted while its connection is away, and does not leave a hung primary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import socketio

from runtime.redis.keys import Keys
from runtime.redis.urls import parse_redis_url
from runtime.settings import Settings


def manager_url(settings: Settings) -> str:
    """Return the URL in python-socketio's words: redis+sentinel://hosts/db/service."""
    if not settings.sentinels:
        return settings.redis_url.split(",")[0]
    url = parse_redis_url(settings.redis_url)
    hosts = ",".join(f"{host}:{port}" for host, port in settings.sentinels)
    return f"redis+sentinel://{hosts}/{url.db}/{url.hosts[0][0]}"


class PubSubManager(socketio.AsyncRedisManager):  # type: ignore[misc]  # shipped without types
    """AsyncRedisManager that listens from the start."""

    caught_up = True

    def __init__(self, settings: Settings, keys: Keys) -> None:
        super().__init__(manager_url(settings), channel=keys.events_channel)

    async def start(self) -> None:
        """Listen at once, not at the first client."""
        if not self.server.manager_initialized:
            self.server.manager_initialized = True
            self.initialize()

    async def stop(self) -> None:
        """End the listening task."""
        thread = getattr(self, "thread", None)
        if thread:
            thread.cancel()

    async def control(self, message: dict[str, Any], to: str = "") -> None:
        """Stock managers have no such message; re-verification closes sockets later."""

    def on_control(self, handler: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Stock managers tell nothing."""

    def status(self) -> dict[str, Any]:
        """Return what /ready tells; this manager does not know how it is."""
        return {"kind": "pubsub", "caught_up": True}
