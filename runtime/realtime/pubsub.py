"""The stock pub/sub manager of python-socketio, selectable for comparison.

It loses what is emitted while its connection is away, and does not leave a hung primary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import socketio

from runtime.redis.keys import Keys
from runtime.redis.urls import parse_redis_url
from runtime.redis.wire import shown
from runtime.settings import Settings, SettingsError


def manager_url(settings: Settings) -> str:
    """Return the URL in python-socketio's words: redis+sentinel://hosts/db/service.

    Raises SettingsError for a cluster, of which that manager would use one node only.
    """
    if settings.sentinels:
        url = parse_redis_url(settings.redis_url)
        hosts = ",".join(shown(address) for address in settings.sentinels)
        return f"redis+sentinel://{hosts}/{url.db}/{url.hosts[0][0]}"
    if settings.redis_cluster:
        raise SettingsError(
            "WEBSOCKET_MANAGER=redis-pubsub would send everything through one node of the "
            "cluster and be deaf without it; choose WEBSOCKET_MANAGER=redis"
        )
    return settings.redis_url


def manager_options(settings: Settings) -> dict[str, Any]:
    """Return redis-py's options: timeouts, the connection's name, and what its URL cannot say."""
    options: dict[str, Any] = {
        "socket_timeout": None,  # a subscriber waits
        "socket_connect_timeout": settings.redis_socket_connect_timeout,
        "socket_keepalive": settings.redis_socket_keepalive,
        "client_name": f"{settings.instance_id}:pubsub-manager",
    }
    if not settings.sentinels:
        return options
    url = parse_redis_url(settings.redis_url)
    tls = {"ssl": True, **url.tls.options()} if url.tls else {}
    sentinel = {
        **{k: v for k, v in options.items() if k != "socket_timeout"},
        **tls,
        "socket_timeout": settings.redis_socket_timeout,
        "username": settings.redis_sentinel_username,
        "password": settings.redis_sentinel_password,
    }
    options |= {"username": url.username, "password": url.password, **tls}
    return {**options, "sentinel_kwargs": sentinel}


class PubSubManager(socketio.AsyncRedisManager):  # type: ignore[misc]  # shipped without types
    """AsyncRedisManager that listens from the start."""

    caught_up = True

    def __init__(self, settings: Settings, keys: Keys) -> None:
        options = manager_options(settings)
        super().__init__(manager_url(settings), channel=keys.events_channel, redis_options=options)

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
            await asyncio.gather(thread, return_exceptions=True)
        if self.redis is not None:
            await self.pubsub.aclose()
            await self.redis.aclose()
            watcher = getattr(self.redis.connection_pool, "sentinel_manager", None)
            for sentinel in watcher.sentinels if watcher else ():  # the pool leaves them open
                await sentinel.aclose()

    async def control(self, message: dict[str, Any], to: str = "") -> None:
        """Stock managers have no such message; re-verification closes sockets later."""

    def on_control(self, handler: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Stock managers tell nothing."""

    def status(self) -> dict[str, Any]:
        """Return what /ready tells; this manager does not know how it is."""
        return {"kind": "pubsub", "caught_up": True}
