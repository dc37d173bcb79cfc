"""One Redis of each kind, and none, for tests that have to hold on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bus_servers import SentinelSet, Server, serving
from test_bus_cluster import ClusterSet

KINDS = ("alone", "standalone", "sentinel", "cluster")


class Backend:
    """Variables for workers, and a way to ask the servers directly."""

    def __init__(self, kind: str, environ: dict[str, str], primaries: list[Server]) -> None:
        self.kind, self.environ, self.primaries = kind, environ, primaries

    async def flush(self) -> None:
        """Lose all data."""
        for server in self.primaries:
            await server.call("FLUSHALL")

    async def keys(self, pattern: str = "*") -> set[str]:
        """Return the keys of all primaries."""
        return {key for server in self.primaries for key in await server.call("KEYS", pattern)}


@asynccontextmanager
async def backend_of(kind: str, folder: Path) -> AsyncIterator[Backend]:
    """Start what the kind needs."""
    if kind == "alone":
        yield Backend(kind, {}, [])
    elif kind == "standalone":
        async with serving(folder) as server:
            yield Backend(kind, {"REDIS_URL": server.url}, [server])
    else:
        servers: Any = SentinelSet(folder) if kind == "sentinel" else ClusterSet(folder)
        try:
            await servers.start()
            settings = servers.settings()
            environ = {
                "REDIS_URL": settings.redis_url,
                "REDIS_CLUSTER": str(settings.redis_cluster),
                "REDIS_SENTINEL_HOSTS": settings.redis_sentinel_hosts,
            }
            yield Backend(
                kind, environ, servers.nodes[:1] if kind == "sentinel" else servers.nodes[:3]
            )
        finally:
            if kind == "sentinel":
                servers.sentinel.kill()
            for node in servers.nodes:
                node.kill()
