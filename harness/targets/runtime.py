"""The bundled runtime as a target: its command line, environment and key names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness.errors import UserError
from harness.targets.base import (
    CONFIG,
    MODEL_LISTS,
    POSTGRESQL,
    PRESENCE,
    READY,
    RESYNC_HINT,
    SESSION_DATA,
    SIGN_IN_LIMIT,
    SQLITE,
    STOP_STATES,
    RedisAccess,
    Target,
    WorkerSpec,
)

PREFIX = "open-webui"


class RuntimeTarget(Target):
    """`runtime serve` per worker, or a command that takes the same options (a mutant)."""

    name: ClassVar[str] = "runtime"
    capabilities: frozenset[str] = frozenset(
        {
            *(SESSION_DATA, STOP_STATES, RESYNC_HINT, READY),
            *(CONFIG, SIGN_IN_LIMIT, MODEL_LISTS, PRESENCE),
        }
    )
    channels: ClassVar[Mapping[str, str]] = {
        "events": f"{PREFIX}:socketio",  # of the stock manager; the log is no channel
        "tasks": f"{PREFIX}:tasks:commands",
    }

    databases: ClassVar[tuple[str, ...]] = (SQLITE, POSTGRESQL)
    database_pool: ClassVar[tuple[int, int]] = (4, 0)  # pinned by a test

    def __init__(self, command: Sequence[str] | None = None) -> None:
        words = list(command) if command else [sys.executable, "-m", "runtime"]
        if words[0] == "python":  # the harness's own, whatever the shell has on PATH
            words[0] = sys.executable
        self._command = words

    def command(self, worker: WorkerSpec) -> list[str]:
        """Return the argument vector that starts one worker in the foreground."""
        return [*self._command, "serve", "--host", worker.host, "--port", str(worker.port)]

    def check(self) -> list[str]:
        """Return the argument vector of its configuration doctor."""
        return [*self._command, "check"]

    def environment(self, worker: WorkerSpec) -> dict[str, str]:
        """Return the variables to add to a clean environment for one worker."""
        own = f"sqlite:///{Path(worker.data_directory).resolve()}/runtime.db"
        return {
            **redis_environment(worker.redis),
            "REDIS_KEY_PREFIX": PREFIX,
            "WEBSOCKET_MANAGER": "redis",
            "INSTANCE_ID": worker.instance,
            "WEBUI_SECRET_KEY": worker.secret,
            "DATABASE_URL": worker.database_url or own,
            "ENABLE_STAR_SESSIONS_MIDDLEWARE": "true",
            "OPENAI_API_BASE_URL": worker.provider_url,
            "OPENAI_API_KEY": "none",
            # the load measures the distributed layer, not the password hash
            "ARGON2_TIME_COST": "1",
            "ARGON2_MEMORY_KIB": "8192",
            **worker.extra,
        }

    def key(self, purpose: str) -> str:
        """Return the Redis key that serves `events`, `tasks` or `sessions`."""
        if purpose not in KEYS:
            raise UserError(f"no such purpose `{purpose}`; known: {', '.join(sorted(KEYS))}")
        return KEYS[purpose]


KEYS = {  # as in runtime/redis/keys.py, pinned by a test; the tag in braces decides the slot
    "events": f"{{{PREFIX}:socketio}}:events",
    "tasks": f"{PREFIX}:tasks",
    "sessions": f"{PREFIX}:session_pool",
}


def redis_environment(redis: RedisAccess) -> dict[str, str]:
    """Return the variables that name the Redis servers, at their announced addresses."""
    if redis.topology == "sentinel":
        return {
            "REDIS_URL": f"redis://{redis.service}:6379/0",
            "REDIS_SENTINEL_HOSTS": ",".join(host for host, _ in redis.sentinels),
            "REDIS_SENTINEL_PORT": str(redis.sentinels[0][1]),
        }
    if redis.topology == "cluster":
        nodes = ",".join(f"redis://{host}:{port}/0" for host, port in redis.nodes)
        return {"REDIS_URL": nodes, "REDIS_CLUSTER": "true"}
    host, port = redis.nodes[0]
    return {"REDIS_URL": f"redis://{host}:{port}/0"}
