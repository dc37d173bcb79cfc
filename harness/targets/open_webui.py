"""A real Open WebUI as a target: a release from the package index, its code untouched.

What differs from the bundled runtime, beyond what it lacks (its capabilities):

| thing | here |
|---|---|
| database | PostgreSQL of the run's own; the first worker makes the tables alone |
| one Redis server | the worker's URL is its link: nothing is patched |
| Sentinel, Cluster | the dial hook, where the release's redis-py is known to it |
| tokens of an answer | `response:completion` deltas, several merged into one |
| a stop | answers `{status: true}` whatever became of it |
| first account | whoever signs up first is the admin |

PyTorch is left out: nothing of this layer needs it, and it is most of the download.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from harness.environments.cache import made_once, python_tag
from harness.errors import MissingPart, UserError
from harness.targets.base import POSTGRESQL, SQLITE, RedisAccess, Target, WorkerSpec
from harness.targets.runtime import PREFIX, redis_environment

INSTALL_S = 1800.0
WITHOUT = "torch ; sys_platform == 'never'\n"
PYTHONS = ((3, 11), (3, 12))  # what its releases install on
KEYS = {
    "events": "socketio",  # a channel; its name finds the node in a cluster
    "tasks": f"{PREFIX}:tasks",
    "sessions": f"{PREFIX}:session_pool",
}
OFFLINE = {  # what it would otherwise fetch, ask or send
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
}
QUIET = {  # requests to the provider that no user asked for
    "ENABLE_TITLE_GENERATION": "false",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
    "ENABLE_AUTOCOMPLETE_GENERATION": "false",
}
SETTINGS = {
    "ENABLE_WEBSOCKET_SUPPORT": "true",
    "WEBSOCKET_MANAGER": "redis",
    "ENABLE_OPENAI_API": "true",
    "OPENAI_API_KEY": "none",
    "RAG_OPENAI_API_KEY": "none",
    "ENABLE_SIGNUP": "true",
    "DEFAULT_USER_ROLE": "user",
    "BYPASS_MODEL_ACCESS_CONTROL": "true",
    "CORS_ALLOW_ORIGIN": "*",
    "WEBUI_SESSION_COOKIE_SECURE": "false",
    "WEBUI_AUTH_COOKIE_SECURE": "false",
}


class OpenWebUITarget(Target):
    """`open-webui serve` per worker, from an environment of its own in the cache."""

    name: ClassVar[str] = "open-webui"
    capabilities: frozenset[str] = frozenset()
    channels: ClassVar[Mapping[str, str]] = {
        "events": "socketio",
        "tasks": f"{PREFIX}:tasks:commands",
    }
    ready_s: ClassVar[float] = 180.0  # imports alone take 12 s, the first time much more
    databases: ClassVar[tuple[str, ...]] = (POSTGRESQL, SQLITE)
    first_alone: ClassVar[bool] = True
    link_is_url: ClassVar[bool] = True

    def __init__(self, version: str) -> None:
        self.version = version
        self._python = ""

    @property
    def label(self) -> str:
        """Return the name that `--target` takes."""
        return f"{self.name}=={self.version}"

    def install(self, say: Callable[[str], None]) -> str:
        """Install the release, once; return its interpreter. Raises UserError, MissingPart."""
        if sys.version_info[:2] not in PYTHONS:
            raise MissingPart(f"{self.label} needs Python 3.11 or 3.12, as the harness's own")
        folder = made_once(
            f"{self.name}-{self.version}-{python_tag()}", self._make, say, f"{self.label} (1.7 GB)"
        )
        self._python = str(folder / "bin" / "python")
        return self._python

    def command(self, worker: WorkerSpec) -> list[str]:
        """Return the argument vector that starts one worker in the foreground."""
        program = str(Path(self._python).parent / self.name)
        return [program, "serve", "--host", worker.host, "--port", str(worker.port)]

    def environment(self, worker: WorkerSpec) -> dict[str, str]:
        """Return the variables to add to a clean environment for one worker."""
        shared = Path(worker.data_directory)
        own = shared / worker.instance
        own.mkdir(exist_ok=True)
        redis = redis_environment(worker.redis) | _sentinel_hosts(worker.redis)
        return {
            **OFFLINE,
            **QUIET,
            **SETTINGS,
            **redis,
            **{f"WEBSOCKET_{name}": value for name, value in _socket_variables(redis).items()},
            "REDIS_KEY_PREFIX": PREFIX,
            "WEBUI_SECRET_KEY": worker.secret,
            "DATA_DIR": str(own),
            "DATABASE_URL": worker.database_url or f"sqlite:///{shared / 'webui.db'}",
            "OPENAI_API_BASE_URL": worker.provider_url,
            "RAG_OPENAI_API_BASE_URL": worker.provider_url,
            **worker.extra,
        }

    def refusal(self, topology: str, auth: str, tls: str) -> str:
        """Return why it cannot use such a Redis: its Sentinel client, as its releases are."""
        if topology != "sentinel" or (auth, tls) == ("none", "none"):
            return ""
        if tls != "none":
            return f"{self.label} speaks plain text behind Sentinel, also with `rediss://`"
        return f"{self.label} has no credentials for sentinels but those of the data nodes"

    def key(self, purpose: str) -> str:
        """Return the Redis key that serves `events`, `tasks` or `sessions`."""
        if purpose not in KEYS:
            raise UserError(f"no such purpose `{purpose}`; known: {', '.join(sorted(KEYS))}")
        return KEYS[purpose]

    def _make(self, folder: Path) -> None:
        """Make the environment with uv: pip cannot leave a dependency out."""
        uv = Path(sys.executable).parent / "uv"
        if not uv.exists():
            raise MissingPart("uv is not installed: run `make setup`")
        _call([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)], self.label)
        python = str(folder / "bin" / "python")
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as overrides:
            overrides.write(WITHOUT)
            overrides.flush()
            wanted = f"{self.name}[postgres]=={self.version}"
            words = [str(uv), "pip", "install", "--quiet", "--compile-bytecode"]
            words += ["--python", python, "--overrides", overrides.name, wanted]
            _call(words, self.label)


def _sentinel_hosts(redis: RedisAccess) -> dict[str, str]:
    """Return its list of sentinels: it knows one port for all, so those at another are left out."""
    if redis.topology != "sentinel":
        return {}
    port = redis.sentinels[0][1]
    return {"REDIS_SENTINEL_HOSTS": ",".join(host for host, own in redis.sentinels if own == port)}


def _socket_variables(redis: dict[str, str]) -> dict[str, str]:
    """Return the variables that its socket manager reads apart, without `WEBSOCKET_`."""
    found = {name: value for name, value in redis.items() if name != "REDIS_SENTINEL_HOSTS"}
    if hosts := redis.get("REDIS_SENTINEL_HOSTS"):
        found["SENTINEL_HOSTS"] = hosts
    if port := found.pop("REDIS_SENTINEL_PORT", None):
        found["SENTINEL_PORT"] = port
    return found


def _call(words: list[str], label: str) -> None:
    environment = dict(os.environ)
    if index := environment.get("PIP_INDEX_URL"):  # uv does not read what pip is told
        environment.setdefault("UV_DEFAULT_INDEX", index)
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=INSTALL_S
    )
    if done.returncode:
        said = re.sub(r"(?m)^", "  ", done.stderr.strip()[-1500:])
        raise UserError(f"--target {label}: uv could not install it:\n{said}")
