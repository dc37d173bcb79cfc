"""One error taxonomy over standalone, Sentinel and Cluster."""

from __future__ import annotations

import asyncio

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ConnectionError as RedisConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)

# The server refused before doing anything: safe to send again, elsewhere or later.
REFUSALS = (
    *("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"),
    *("BUSY ", "NOREPLICAS", "MISCONF", "OOM", "UNBLOCKED"),
)
LOST = (RedisConnectionError, RedisTimeoutError, asyncio.TimeoutError, OSError, EOFError)
DENIED = (AuthenticationError, AuthorizationError, NoPermissionError)


class RedisUnavailable(Exception):
    """Redis cannot serve this now; the same call may succeed later.

    `refused` is True when the command definitely was not executed.
    """

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


def _refused(error: Exception) -> bool:
    if isinstance(error, (ReadOnlyError, BusyLoadingError, *DENIED)):
        return True
    # redis-py strips the code of a known error and keeps it in `status_code` or the class
    named = f"{getattr(error, 'status_code', None) or ''} {type(error).__name__} {error}".upper()
    words = named.split()
    return any(code.strip() in words[:4] for code in REFUSALS) or isinstance(
        error, RedisClusterException
    )


def translate(error: BaseException) -> RedisUnavailable | None:
    """Return the error as RedisUnavailable, or None when it is a programming mistake."""
    if isinstance(error, RedisUnavailable):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, DENIED) or (
        isinstance(error, (ResponseError, RedisClusterException)) and _refused(error)
    ):
        return RedisUnavailable(text, refused=True)
    if isinstance(error, (BusyLoadingError, ReadOnlyError)):
        return RedisUnavailable(text, refused=True)
    if isinstance(error, LOST):
        return RedisUnavailable(text)
    return None
