"""One error taxonomy over standalone, Sentinel and Cluster."""

from __future__ import annotations

from redis import exceptions as redis_errors

# The server refused before doing anything: safe to send again, elsewhere or later.
REFUSED_CODES = (
    *("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"),
    *("BUSY", "NOREPLICAS", "MISCONF", "OOM", "UNBLOCKED", "NOAUTH", "NOPERM", "WRONGPASS"),
)
REFUSED = (
    redis_errors.AskError,  # MovedError is one
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.BusyLoadingError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
    redis_errors.NoPermissionError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.RedisClusterException,
    redis_errors.TryAgainError,
)
LOST = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, EOFError)


class RedisUnavailable(Exception):
    """Redis cannot serve this now; the same call may succeed later.

    `refused` is True when the command definitely was not executed.
    """

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


class BreakerOpen(RedisUnavailable):
    """Known to be down: not even tried, and not worth another try within this call."""


def translate(error: BaseException) -> RedisUnavailable | None:
    """Return the error as RedisUnavailable, or None when it is a programming mistake."""
    if isinstance(error, RedisUnavailable):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    coded = isinstance(error, redis_errors.ResponseError) and str(error).startswith(REFUSED_CODES)
    if coded or isinstance(error, REFUSED):
        return RedisUnavailable(text, refused=True)
    if isinstance(error, LOST):
        return RedisUnavailable(text)
    return None
