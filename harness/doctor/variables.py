"""Rules over the variables of one replica: what they cannot mean, and what they forget."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values

from harness.doctor.findings import Finding, masked
from harness.errors import UserError

App = Literal["runtime", "open-webui"]
SHORT = 32
LONG_TIMEOUT_S = 10.0
FAILOVER_S = 5.0  # that sentinels take at least with down-after 5 s, as the texts set it
ORIGIN = re.compile(r"https?://[^/\s,;]+")
LOOPBACK = re.compile(r"localhost|127\.|\[?::1")
SELF = re.compile(r"(localhost|127\.0\.0\.1|\[?::1\]?)(:\d+)?")  # what is written for this place


@dataclass(frozen=True)
class Environment:
    """The variables of one replica. `replicas`: how many there are like it, itself included."""

    name: str
    values: Mapping[str, str] = field(repr=False)
    replicas: int = 1
    app: App = "runtime"

    def get(self, *names: str) -> str:
        """Return the first of these variables that has a value."""
        return next((v for name in names if (v := self.values.get(name, "").strip())), "")

    def yes(self, name: str, default: bool) -> bool:
        """Return whether a flag is set."""
        text = self.get(name).lower()
        return text in ("1", "true", "yes", "on") if text else default

    def number(self, name: str, default: float) -> float:
        """Return a number; the default also for what is none, which `servers` tells."""
        text = self.get(name)
        return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else default

    @property
    def processes(self) -> int:
        """Worker processes of all replicas together."""
        return int(self.number("UVICORN_WORKERS", 1)) * self.replicas

    @property
    def redis_hosts(self) -> list[str]:
        """The hosts that are dialled for Redis, with their ports."""
        if sentinels := self.get("REDIS_SENTINEL_HOSTS"):
            return [host.strip() for host in sentinels.split(",")]
        return urlsplit(self.get("REDIS_URL")).netloc.rpartition("@")[2].split(",")


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables of a file of NAME=value lines; raise UserError."""
    try:
        found = dotenv_values(path, interpolate=False, encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--env {path}: cannot be read: {error}") from error
    if found is None:
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"--env {path}: {what}; expected lines of NAME=value")
    values = {name: value for name, value in found.items() if value is not None}
    if not values:
        raise UserError(f"--env {path}: no variable in it; expected lines of NAME=value")
    return values


def judge(env: Environment) -> Iterator[Finding]:
    """Yield what the variables alone tell."""
    rules = (_secret, _shared, _sockets, _websocket, _timeouts, _retries, _local, _password)
    for rule in (*rules, _database, _vectors, _origins, _sessions, _config, _prefix):
        yield from rule(env)


def _secret(env: Environment) -> Iterator[Finding]:
    secret = env.get("WEBUI_SECRET_KEY", "WEBUI_JWT_SECRET_KEY")
    fix = "set the same random text of at least 32 characters on all replicas"
    if not secret:
        yield Finding("secret-missing", "error", env.name, "WEBUI_SECRET_KEY is not set", "unset",
                      "each replica signs tokens with a key of its own, or does not start: "
                      "users are signed out at random", fix)  # fmt: skip
    elif len(secret) < SHORT:
        yield Finding("secret-short", "warning", env.name, "WEBUI_SECRET_KEY is short",
                      f"{len(secret)} characters", "tokens can be forged by guessing it",
                      fix)  # fmt: skip


def _shared(env: Environment) -> Iterator[Finding]:
    if env.processes > 1 and not env.get("REDIS_URL"):
        yield Finding("workers-without-redis", "error", env.name,
                      f"{env.processes} processes, and no REDIS_URL",
                      f"UVICORN_WORKERS={env.get('UVICORN_WORKERS') or 1}, "
                      f"replicas {env.replicas}, REDIS_URL unset",
                      "each has sessions, sockets and tasks of its own: users are signed out at "
                      "random, chats do not update", "set REDIS_URL on all of them")  # fmt: skip


def _sockets(env: Environment) -> Iterator[Finding]:
    chosen = env.values.get("WEBSOCKET_MANAGER")
    known = env.app == "runtime" and chosen is None  # then it follows REDIS_URL
    if env.processes < 2 or not env.get("REDIS_URL", "WEBSOCKET_REDIS_URL"):
        return
    if not known and not (chosen or "").strip().startswith("redis"):
        yield Finding("sockets-in-memory", "error", env.name, "events do not travel by Redis",
                      f"WEBSOCKET_MANAGER {'unset' if chosen is None else f'is `{chosen}`'}",
                      "a user sees only what happens on the process of the own socket",
                      "WEBSOCKET_MANAGER=redis")  # fmt: skip


def _websocket(env: Environment) -> Iterator[Finding]:
    if env.processes > 1 and not env.yes("ENABLE_WEBSOCKET_SUPPORT", True):
        yield Finding("polling-only", "warning", env.name, "sockets may only poll",
                      f"ENABLE_WEBSOCKET_SUPPORT={env.get('ENABLE_WEBSOCKET_SUPPORT')}",
                      "each poll must reach the same process, or the socket is lost",
                      "ENABLE_WEBSOCKET_SUPPORT=true, or have the balancer pin users")  # fmt: skip


def _timeouts(env: Environment) -> Iterator[Finding]:
    stock = env.app == "open-webui" and env.get("REDIS_URL")
    fix = "REDIS_SOCKET_CONNECT_TIMEOUT=5 (seconds)"
    if stock and not env.get("REDIS_SOCKET_CONNECT_TIMEOUT"):
        yield Finding("timeout-missing", "warning", env.name, "connecting to Redis has no timeout",
                      "REDIS_SOCKET_CONNECT_TIMEOUT unset",
                      "when a node or sentinel is gone workers hang, also at their start",
                      fix)  # fmt: skip
    options = env.get("WEBSOCKET_REDIS_OPTIONS")
    if stock and options and "socket_connect_timeout" not in _object(options):
        yield Finding("socket-timeout-lost", "warning", env.name,
                      "the sockets' Redis has no timeout",
                      f"WEBSOCKET_REDIS_OPTIONS names {', '.join(_object(options)) or 'nothing'}",
                      "the other timeout does not apply there: sockets hang in a failover",
                      'add "socket_connect_timeout": 5 to it')  # fmt: skip
    for name in ("REDIS_SOCKET_CONNECT_TIMEOUT", "REDIS_SOCKET_TIMEOUT"):
        if LONG_TIMEOUT_S < (seconds := env.number(name, 0)) <= 300:  # above: no seconds, refused
            yield Finding("timeout-long", "warning", env.name, f"{name} is {seconds:g} s",
                          f"{name}={seconds:g}",
                          "for so long every request waits for a node that hangs",
                          "5 s or less")  # fmt: skip


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _retries(env: Environment) -> Iterator[Finding]:
    count = env.number("REDIS_SENTINEL_MAX_RETRY_COUNT", 2)
    delay = env.number("REDIS_RECONNECT_DELAY", 0)
    if env.app != "open-webui" or not env.get("REDIS_SENTINEL_HOSTS"):
        return  # the runtime's tries are bound by a deadline of their own
    if (lasts := count * delay / 1000) < FAILOVER_S:
        yield Finding("retries-too-few", "warning", env.name,
                      f"retries are over after {lasts:g} s, a failover takes longer",
                      f"REDIS_SENTINEL_MAX_RETRY_COUNT {count:g}, "
                      f"REDIS_RECONNECT_DELAY {delay:g} ms",
                      "requests fail during every failover",
                      "REDIS_SENTINEL_MAX_RETRY_COUNT=5 and REDIS_RECONNECT_DELAY=1000, or "
                      "more")  # fmt: skip


def _local(env: Environment) -> Iterator[Finding]:
    hosts = [host for host in env.redis_hosts if SELF.fullmatch(host)]
    if env.replicas > 1 and hosts:
        yield Finding("redis-is-local", "warning", env.name, "Redis is looked for on localhost",
                      ", ".join(hosts),
                      "in a container or on another machine that is another place: each replica "
                      "finds none, or one of its own",
                      "the name of Redis's service or machine")  # fmt: skip


def _password(env: Environment) -> Iterator[Finding]:
    url = urlsplit(env.get("REDIS_URL"))
    remote = [host for host in env.redis_hosts if host and not LOOPBACK.match(host)]
    if remote and not unquote(url.password or ""):
        yield Finding("redis-without-password", "warning", env.name, "Redis asks for no password",
                      masked(env.get("REDIS_URL")),
                      "whoever reaches the port reads and changes sessions",
                      "requirepass or an ACL user, and rediss:// across machines")  # fmt: skip


def _database(env: Environment) -> Iterator[Finding]:
    url = env.get("DATABASE_URL")
    if env.replicas < 2 or (url and not url.startswith("sqlite")):
        return
    shared = url.startswith("sqlite:////")
    yield Finding("database-is-file", "note" if shared else "warning", env.name,
                  "the database is a file", f"DATABASE_URL {masked(url) if url else 'unset'}",
                  "replicas on other machines have accounts and chats of their own; on this one "
                  "they share it if the path is the same",
                  "a PostgreSQL server")  # fmt: skip


def _vectors(env: Environment) -> Iterator[Finding]:
    kind = env.get("VECTOR_DB") or "chroma"
    if env.app != "open-webui" or env.processes < 2 or kind != "chroma":
        return
    if not env.get("CHROMA_HTTP_HOST"):
        yield Finding("vectors-in-file", "error", env.name, "ChromaDB writes to a file",
                      f"VECTOR_DB {env.get('VECTOR_DB') or 'unset'}, CHROMA_HTTP_HOST unset",
                      "workers die (`Child process died`) when documents are uploaded",
                      "VECTOR_DB=pgvector, milvus or qdrant, or a Chroma server by "
                      "CHROMA_HTTP_HOST")  # fmt: skip


def _origins(env: Environment) -> Iterator[Finding]:
    text = env.get("CORS_ALLOW_ORIGIN")
    if text in ("", "*"):
        yield Finding("any-origin", "warning", env.name, "pages of every origin may open sockets",
                      f"CORS_ALLOW_ORIGIN {text or 'unset'}",
                      "a page elsewhere acts with a visitor's cookie",
                      "CORS_ALLOW_ORIGIN=https://the.address.users.see")  # fmt: skip
        return
    entries = [entry.strip() for entry in text.split(";") if entry.strip()]
    wrong = [entry for entry in entries if not ORIGIN.fullmatch(entry)]
    if wrong:
        yield Finding("origin-malformed", "error", env.name,
                      "CORS_ALLOW_ORIGIN holds what is no origin", ", ".join(wrong),
                      "browsers are refused; sockets fail without a word",
                      "https://host[:port], without a path or slash, separated by "
                      "semicolons")  # fmt: skip


def _sessions(env: Environment) -> Iterator[Finding]:
    if env.processes > 1 and not env.yes("ENABLE_STAR_SESSIONS_MIDDLEWARE", False):
        yield Finding("sessions-in-cookies", "note", env.name, "session data is not in Redis",
                      "ENABLE_STAR_SESSIONS_MIDDLEWARE is not true",
                      "each browser keeps its own; a sign-in by OAuth may be forgotten between "
                      "replicas", "ENABLE_STAR_SESSIONS_MIDDLEWARE=true")  # fmt: skip


def _config(env: Environment) -> Iterator[Finding]:
    if env.processes > 1 and not env.yes("ENABLE_PERSISTENT_CONFIG", True):
        yield Finding("config-not-kept", "note" if env.app == "runtime" else "warning", env.name,
                      "changes of configuration are not kept", "ENABLE_PERSISTENT_CONFIG=false",
                      "they end with the deployment, and may not reach every replica",
                      "ENABLE_PERSISTENT_CONFIG=true on all")  # fmt: skip


def _prefix(env: Environment) -> Iterator[Finding]:
    if env.get("REDIS_URL") and not env.get("REDIS_KEY_PREFIX"):
        yield Finding("prefix-default", "note", env.name, "REDIS_KEY_PREFIX is not set",
                      "unset: open-webui",
                      "a second installation on this Redis would share sessions and tasks",
                      "a prefix for each installation")  # fmt: skip
