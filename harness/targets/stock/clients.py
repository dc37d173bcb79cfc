"""How the stock app connects to Redis: one server, Sentinel or Cluster, each in the usual ways.

`STOCK_…` variables choose where people commonly write it in two ways; docs/targets.md tells which.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis as blocking
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import Sentinel as BlockingSentinel

URL = os.environ["REDIS_URL"]
SERVICE = os.environ.get("REDIS_SENTINEL_SERVICE", "")
SENTINELS = [
    (host, int(port))
    for host, port in (
        pair.split(":") for pair in os.environ.get("REDIS_SENTINELS", "").split(",") if pair
    )
]
CLUSTER = os.environ.get("REDIS_CLUSTER") == "true"

RETRY = os.environ.get("STOCK_REDIS_RETRY")
BY_HOST = os.environ.get("STOCK_REDIS_CLIENT") == "host"  # else made with from_url()
PER_CALL = os.environ.get("STOCK_SENTINEL_CLIENT") == "per-call"
SHARED_SESSIONS = os.environ.get("STOCK_SESSIONS") == "shared"


def _options() -> dict[str, Any]:
    """Return what the variables say of pools and timeouts; nothing by default."""
    options: dict[str, Any] = {}
    if most := os.environ.get("STOCK_MAX_CONNECTIONS"):
        options["max_connections"] = int(most)
    if seconds := os.environ.get("STOCK_SOCKET_TIMEOUT"):
        options["socket_timeout"] = None if seconds == "none" else float(seconds)
    return options


def _retrying() -> dict[str, Any]:
    """Return the retry policy of `STOCK_REDIS_RETRY`: how often, and seconds between."""
    if not RETRY:
        return {}
    times, _, pause = RETRY.partition("x")
    policy = Retry(ConstantBackoff(float(pause)), int(times))
    return {"retry": policy, "retry_on_error": [RedisConnectionError, RedisTimeoutError]}


def _secured() -> dict[str, Any]:
    """Return the credentials and TLS options of REDIS_URL, for clients that take no URL."""
    url = urlsplit(URL)
    options: dict[str, Any] = dict(parse_qsl(url.query))
    options |= {"ssl": True} if url.scheme == "rediss" else {}
    credentials = {"username": url.username, "password": url.password}
    return options | {name: unquote(value) for name, value in credentials.items() if value}


def _sentinel_options() -> dict[str, Any]:
    """Return the same of the sentinels, whose credentials are their own."""
    tls = {name: value for name, value in _secured().items() if name.startswith("ssl")}
    given = {
        name: os.environ.get(f"REDIS_SENTINEL_{name.upper()}") for name in ("username", "password")
    }
    return tls | {name: value for name, value in given.items() if value}


def _sentinel(kind: Any, **options: Any) -> Any:
    """Return redis-py's Sentinel, the asyncio or the blocking one."""
    return kind(SENTINELS, sentinel_kwargs=_sentinel_options() or None, **_secured(), **options)


class PerCall:
    """Asks Sentinel for the primary again at every command, to be sure that it is the right one."""

    def __init__(self, **options: Any) -> None:
        self._sentinel = _sentinel(Sentinel)
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sentinel.master_for(SERVICE, **self._options), name)


def make_client(**options: Any) -> Any:
    """Return the app's client, as its settings say."""
    options = {**_options(), **_retrying(), **options}
    if SENTINELS:
        if PER_CALL:
            return PerCall(**options)
        return _sentinel(Sentinel).master_for(SERVICE, **options)
    if CLUSTER:
        return RedisCluster.from_url(URL, **options)
    if BY_HOST:
        url = urlsplit(URL)
        place: dict[str, Any] = {"host": url.hostname or "", "port": url.port or 6379}
        return Redis(**place, **_secured(), **options)
    return Redis.from_url(URL, **options)


def make_session_client() -> Any:
    """Return the client of the sessions: REDIS_URL is what their library's example takes."""
    return make_client() if SHARED_SESSIONS else Redis.from_url(URL, **_options())


def make_blocking_client() -> Any:
    """Return a client for threads."""
    options = {**_options(), "decode_responses": True}
    if SENTINELS:
        return _sentinel(BlockingSentinel).master_for(SERVICE, **options)
    if CLUSTER:
        return blocking.RedisCluster.from_url(URL, **options)
    return blocking.Redis.from_url(URL, **options)


def manager_options() -> dict[str, Any]:
    """Return what python-socketio's Redis manager is told beside the URL: what that cannot say."""
    if not SENTINELS or not (options := _secured()):
        return {}
    return {**options, "sentinel_kwargs": _sentinel_options()}


def manager_url() -> str:
    """Return the URL of python-socketio's Redis manager; on a Cluster one node has to do."""
    if not SENTINELS:
        return URL
    hosts = ",".join(f"{host}:{port}" for host, port in SENTINELS)
    return f"redis+sentinel://{hosts}/0/{SERVICE}"
