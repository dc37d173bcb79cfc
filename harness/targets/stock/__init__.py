"""A stock app as a target: FastAPI, python-socketio's Redis manager and starsessions, unprotected.

It is written as most people would write it: every library at its defaults, no deadlines, no
retries, no supervision. So what a library does by itself shows. Do not copy it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness.errors import UserError
from harness.targets.base import (
    CONFIG,
    MODEL_LISTS,
    PRESENCE,
    READY,
    SESSION_DATA,
    SIGN_IN_LIMIT,
    RedisAccess,
    Target,
    WorkerSpec,
)

KEYS = {"events": "socketio", "tasks": "tasks", "sessions": "starsessions."}


class StockTarget(Target):
    """`uvicorn harness.targets.stock.app:app` per worker; accounts are in SQLite."""

    name: ClassVar[str] = "stock"
    capabilities: frozenset[str] = frozenset(
        {SESSION_DATA, READY, CONFIG, SIGN_IN_LIMIT, MODEL_LISTS, PRESENCE}
    )
    channels: ClassVar[Mapping[str, str]] = {"events": "socketio", "tasks": "tasks:stop"}

    def command(self, worker: WorkerSpec) -> list[str]:
        """Return the argument vector that starts one worker in the foreground."""
        address = ["--host", worker.host, "--port", str(worker.port)]
        # or an idle connection of the load may be closed as a request is on its way
        patience = ["--timeout-keep-alive", "75"]
        app = "harness.targets.stock.app:app"
        return [sys.executable, "-m", "uvicorn", app, *address, *patience]

    def environment(self, worker: WorkerSpec) -> dict[str, str]:
        """Return the variables to add to a clean environment for one worker."""
        return {
            **_redis_environment(worker.redis),
            "SECRET_KEY": worker.secret,
            "DATABASE": str(Path(worker.data_directory) / "stock.db"),
            "OPENAI_API_BASE_URL": worker.provider_url,
            **worker.extra,
        }

    def key(self, purpose: str) -> str:
        """Return the Redis key that serves `events`, `tasks` or `sessions`."""
        if purpose not in KEYS:
            raise UserError(f"no such purpose `{purpose}`; known: {', '.join(sorted(KEYS))}")
        return KEYS[purpose]


def _redis_environment(redis: RedisAccess) -> dict[str, str]:
    """Return the variables that name the Redis servers.

    REDIS_URL is what a service name in front of them means at the start: the first node.
    """
    host, port = redis.nodes[0]
    found = {"REDIS_URL": redis.url(f"{host}:{port}")}
    if redis.topology == "sentinel":
        found["REDIS_SENTINELS"] = ",".join(f"{host}:{port}" for host, port in redis.sentinels)
        found["REDIS_SENTINEL_SERVICE"] = redis.service
        if login := redis.sentinel_login:
            found["REDIS_SENTINEL_USERNAME"] = login.user
            found["REDIS_SENTINEL_PASSWORD"] = login.password
    elif redis.topology == "cluster":
        found["REDIS_CLUSTER"] = "true"
    return found
