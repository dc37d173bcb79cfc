"""The bundled runtime as a target: its command line, environment and key names."""

from __future__ import annotations

import json
import shlex
import subprocess
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
    TASK_LIST,
    TRACES,
    Permissions,
    RedisAccess,
    Target,
    WorkerSpec,
)

PREFIX = "open-webui"
TELLS_S = 60.0  # its rules; the start of a process on a busy machine
VARIABLES = {"REDIS_KEY_PREFIX": PREFIX, "WEBSOCKET_MANAGER": "redis"}


class RuntimeTarget(Target):
    """`runtime serve` per worker, or a command that takes the same options (a mutant)."""

    name: ClassVar[str] = "runtime"
    capabilities: frozenset[str] = frozenset(
        {
            *(SESSION_DATA, STOP_STATES, RESYNC_HINT, READY),
            *(CONFIG, SIGN_IN_LIMIT, MODEL_LISTS, PRESENCE, TASK_LIST, TRACES),
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
            **VARIABLES,
            "INSTANCE_ID": worker.instance,
            "WEBUI_SECRET_KEY": worker.secret,
            "DATABASE_URL": worker.database_url or own,
            "ENABLE_STAR_SESSIONS_MIDDLEWARE": "true",
            "OPENAI_API_BASE_URL": worker.provider_url,
            "OPENAI_API_KEY": "none",
            # the load measures the distributed layer, not the password hash
            "ARGON2_TIME_COST": "1",
            "ARGON2_MEMORY_KIB": "8192",
            **trace_environment(worker),
            **worker.extra,
        }

    def permissions(self, redis: RedisAccess, environment: Mapping[str, str]) -> Permissions:
        """Ask `runtime acl`; raise UserError when it does not tell."""
        own = {**redis_environment(redis), **VARIABLES, "WEBUI_SECRET_KEY": "unused"}
        environment = own | dict(environment)
        words = [*self._command, "acl", "--json"]
        rules = json.loads(_told(words, environment))
        return Permissions(tuple(rules["nodes"]), tuple(rules.get("sentinels", ())))

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


def trace_environment(worker: WorkerSpec) -> dict[str, str]:
    """Return the variables that send spans to the run's collector, soon: a kill loses the rest."""
    if not worker.collector:
        return {}
    return {
        "ENABLE_OTEL": "true",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": worker.collector,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(worker.trace_share),
        "OTEL_RESOURCE_ATTRIBUTES": f"harness.run={worker.run}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BSP_MAX_QUEUE_SIZE": "65536",  # the library's 2048 drops spans of busy seconds
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1024",
    }


def _told(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what a command of the target prints; raise UserError when it does not end well."""
    failed = f"expected ACL rules from `{shlex.join(words)}`, which"
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, timeout=TELLS_S
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{failed} did not end within {TELLS_S:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise UserError(f"{failed} ended with {done.returncode}: {said}")
    return done.stdout


def redis_environment(redis: RedisAccess) -> dict[str, str]:
    """Return the variables that name the Redis servers, at their announced addresses."""
    if redis.topology == "sentinel":
        return {
            "REDIS_URL": redis.url(f"{redis.service}:6379"),
            **_sentinels(redis.sentinels),
            **_sentinel_login(redis),
        }
    if redis.topology == "cluster":
        nodes = ",".join(redis.url(f"{host}:{port}") for host, port in redis.nodes)
        return {"REDIS_URL": nodes, "REDIS_CLUSTER": "true"}
    host, port = redis.nodes[0]
    return {"REDIS_URL": redis.url(f"{host}:{port}")}


def _sentinels(addresses: Sequence[tuple[str, int]]) -> dict[str, str]:
    """Return the variables of the sentinels; in containers each has a port of its own."""
    port = addresses[0][1]
    hosts = [host if own == port else f"{host}:{own}" for host, own in addresses]
    return {"REDIS_SENTINEL_HOSTS": ",".join(hosts), "REDIS_SENTINEL_PORT": str(port)}


def _sentinel_login(redis: RedisAccess) -> dict[str, str]:
    if (login := redis.sentinel_login) is None:
        return {}
    user = {"REDIS_SENTINEL_USERNAME": login.user} if login.user else {}
    return {**user, "REDIS_SENTINEL_PASSWORD": login.password}
