"""One error taxonomy over standalone, Sentinel and Cluster; the table is in docs/redis.md."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from redis import exceptions as redis_errors


@dataclass(frozen=True)
class Code:
    """What an error code means: worth another try within one call, and what to do about it."""

    retriable: bool
    hint: str = ""


# The server refused before doing anything: safe to send again, elsewhere or later.
CODES = {
    "MOVED": Code(True),
    "ASK": Code(True),
    "READONLY": Code(True, "a replica; the primary is being looked for"),
    "LOADING": Code(True, "the server reads its data after a start"),
    "MASTERDOWN": Code(True, "a replica that has lost its primary"),
    "CLUSTERDOWN": Code(True, "slots are not served; see CLUSTER INFO"),
    "TRYAGAIN": Code(True, "a slot is being moved"),
    "BUSY": Code(True, "a script runs for too long; see SCRIPT KILL"),
    "UNBLOCKED": Code(True, "the server's role changed"),
    "NOREPLICAS": Code(True, "fewer replicas than min-replicas-to-write"),
    "MISCONF": Code(True, "the server cannot save its data; see its log, free its disk"),
    "OOM": Code(True, "memory is used up; raise maxmemory or set a maxmemory-policy"),
    "NOAUTH": Code(False, "the server wants a password; put it into the URL"),
    "WRONGPASS": Code(False, "user name or password is wrong, or the user is off"),
    "NOPERM": Code(False, "the ACL user may not do this"),
}
MAX_CLIENTS = "max number of clients reached"
OTHER_HINTS = {  # text of an error without a code → what to do about it
    MAX_CLIENTS: "raise maxclients, or find the leak in CLIENT LIST",
    "invalid password": CODES["WRONGPASS"].hint,
    "CERTIFICATE_VERIFY_FAILED": "name the authority with ?ssl_ca_certs=FILE in the URL",
    "WRONG_VERSION_NUMBER": "the server speaks no TLS on this port; write redis:// or its TLS port",
    "cluster support disabled": "no cluster; unset REDIS_CLUSTER",
}
CLASSES: dict[type[Exception], str] = {  # redis-py's classes drop the code from their text
    redis_errors.MovedError: "MOVED",
    redis_errors.AskError: "ASK",
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.BusyLoadingError: "LOADING",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.TryAgainError: "TRYAGAIN",
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.AuthorizationError: "NOPERM",
    redis_errors.AuthenticationError: "WRONGPASS",
}
IN_SCRIPT = ("ACL failure in script", "user executing the script can't")  # since 7.0, or before
LOST = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, EOFError)


class RedisUnavailable(Exception):
    """Redis cannot serve this now; the same call may succeed later.

    `refused` is True when the command definitely was not executed; `code` is the server's error
    code where it gave one.
    """

    retriable = True

    def __init__(self, reason: str, refused: bool = False, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused
        self.code = code


class BreakerOpen(RedisUnavailable):
    """Known to be down: not even tried, and not worth another try within this call."""

    retriable = False


class RedisDenied(RedisUnavailable):
    """Credentials or an ACL rule are missing: only an operator can help, trying again cannot."""

    retriable = False

    @property
    def forbidden(self) -> bool:
        """Whether one command is forbidden while the server serves others."""
        return self.code == "NOPERM"


def translate(error: BaseException) -> RedisUnavailable | None:
    """Return the error as RedisUnavailable, or None when it is a programming mistake."""
    if isinstance(error, RedisUnavailable):
        return error
    code = _code(error)
    if code:
        kind = RedisUnavailable if CODES[code].retriable else RedisDenied
        return kind(_explained(code, error), refused=True, code=code)
    if isinstance(error, redis_errors.RedisClusterException):
        return RedisUnavailable(explain(error), refused=True)
    if isinstance(error, LOST):
        return RedisUnavailable(explain(error), refused=MAX_CLIENTS in str(error))
    return None


def level_of(error: RedisUnavailable) -> int:
    """Return the log level: an outage ends by itself, what is denied needs an operator."""
    return logging.ERROR if isinstance(error, RedisDenied) else logging.INFO


def _code(error: BaseException) -> str:
    """Return the server's code, however redis-py hides it."""
    text = str(error)
    if any(part in text for part in ("NOPERM", *IN_SCRIPT)):
        return "NOPERM"
    if not isinstance(error, redis_errors.RedisError):
        return ""
    given = str(getattr(error, "status_code", "") or text.partition(" ")[0])
    if given in CODES:
        return given
    if "NOAUTH" in text or "Authentication required" in text:
        return "NOAUTH"
    return next((CLASSES[kind] for kind in type(error).__mro__ if kind in CLASSES), "")


def _explained(code: str, error: BaseException) -> str:
    text = str(error).strip().removeprefix(code).strip()
    hint = acl_rule(text) if code == "NOPERM" else CODES[code].hint
    return f"{code}: {text}" + (f" ({hint})" if hint else "")


def explain(error: BaseException) -> str:
    """Return the error in one line, with what to do about it where that is known."""
    if isinstance(error, RedisUnavailable):
        return error.reason
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = next((hint for part, hint in OTHER_HINTS.items() if part in text), "")
    return f"{text} ({hint})" if hint else text


def acl_rule(text: str) -> str:
    """Return which rule would allow what a NOPERM message complains about."""
    command = re.search(r"'([\w|-]+)' command", text)
    if command:
        return f"add the ACL rule +{command[1].lower()}"
    if "can't run this command" in text:
        return "inside a script; ACL LOG names the command, add the ACL rule +COMMAND"
    if "channel" in text:
        return "add the ACL rule &PREFIX:* with REDIS_KEY_PREFIX for PREFIX"
    return "add the ACL rules ~PREFIX:* and ~{PREFIX:* with REDIS_KEY_PREFIX for PREFIX"
