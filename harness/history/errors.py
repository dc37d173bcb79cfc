"""The one table that says whether an error means "did not happen" or "nobody knows".

Every HTTP status, exception and Socket.IO or Redis error of a run goes through `classify`. A wrong
"definitely did not happen" would hide lost writes, so whatever is not in the table is indefinite.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from harness.history.records import FAIL, INFO

SERVICE_UNAVAILABLE = 503


@dataclass(frozen=True)
class Row:
    """One kind of error: its short code, what it proves, how it is recognised, and why so.

    `statuses` are HTTP statuses; `errnos` are of OSError; `names` are class names anywhere among
    an exception's classes; `starts` begin its text (a Redis reply) and `words` are anywhere in it.
    One mark is enough; the first row that fits counts.
    """

    code: str
    outcome: str
    why: str
    statuses: tuple[int, ...] = ()
    errnos: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


TABLE: tuple[Row, ...] = (
    # HTTP answers
    Row(
        "unavailable",
        FAIL,
        "503 with a detail: the application refused before it did anything",
        statuses=(503,),
    ),
    Row(
        "server-error",
        INFO,
        "500, 502, 504: it broke somewhere on the way; the effect may have happened",
        statuses=(500, 502, 504),
    ),
    Row(
        "refused",
        FAIL,
        "4xx: the application looked at the request and declined it",
        statuses=tuple(range(400, 500)),
    ),
    Row(
        "redirected",
        FAIL,
        "3xx: the request was sent elsewhere and nothing was done here",
        statuses=tuple(range(300, 400)),
    ),
    # Redis answers: the server said no, so the command did not run
    Row(
        "redis-moved",
        FAIL,
        "the node does not serve this slot; it did not run the command",
        names=("MovedError", "AskError", "TryAgainError"),
        starts=("MOVED ", "ASK ", "TRYAGAIN"),
    ),
    Row(
        "redis-cluster-down",
        FAIL,
        "the cluster refuses commands until all slots are served",
        names=("ClusterDownError", "SlotNotCoveredError"),
        starts=("CLUSTERDOWN",),
    ),
    Row(
        "redis-read-only",
        FAIL,
        "a replica refuses writes",
        names=("ReadOnlyError",),
        starts=("READONLY",),
    ),
    Row(
        "redis-loading",
        FAIL,
        "the server still loads its data and refuses commands",
        names=("BusyLoadingError",),
        starts=("LOADING", "MASTERDOWN"),
    ),
    Row(
        "redis-denied",
        FAIL,
        "wrong or missing credentials",
        names=("AuthenticationError", "AuthorizationError", "NoPermissionError"),
        starts=("NOAUTH", "WRONGPASS", "NOPERM"),
    ),
    Row(
        "redis-refused",
        FAIL,
        "the server answered that it will not run the command",
        names=("OutOfMemoryError", "ExecAbortError", "NoScriptError"),
        starts=("OOM ", "MISCONF", "NOREPLICAS", "BUSY ", "EXECABORT", "NOSCRIPT"),
    ),
    Row(
        "redis-no-primary",
        FAIL,
        "no primary is known, so nothing was sent",
        names=("MasterNotFoundError", "SlaveNotFoundError"),
    ),
    Row(
        "redis-pool-exhausted",
        FAIL,
        "no connection was free, so nothing was sent",
        names=("MaxConnectionsError",),
    ),
    # Sockets
    Row(
        "connection-refused",
        FAIL,
        "nobody listened; nothing was sent",
        errnos=(errno.ECONNREFUSED,),
        names=("ConnectionRefusedError", "ClientConnectorError"),
        words=("Connection refused", "Error 111 "),
    ),
    Row(
        "connect-timeout",
        FAIL,
        "no connection in time; nothing was sent",
        names=("ConnectionTimeoutError", "ConnectTimeout"),
    ),
    Row(
        "unreachable",
        FAIL,
        "no route, or no such host; nothing was sent",
        errnos=(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL),
        names=("gaierror",),
    ),
    Row(
        "socketio-rejected",
        FAIL,
        "the server answered CONNECT_ERROR",
        names=("ConnectRejected",),
    ),
    Row(
        "upgrade-refused",
        FAIL,
        "the server answered the WebSocket handshake with another status",
        names=("UpgradeRefused",),
    ),
    Row(
        "not-connected",
        FAIL,
        "the user had no socket, so nothing was sent",
        names=("NotConnected", "BadNamespaceError"),
    ),
    Row(
        "timeout",
        INFO,
        "no answer in time; it may have happened, or still happen",
        errnos=(errno.ETIMEDOUT,),
        names=("TimeoutError", "Timeout", "timeout"),
    ),
    Row(
        "connection-lost",
        INFO,
        "the connection ended after sending; it may have happened",
        errnos=(errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.EBADF),
        names=(
            "ConnectionResetError",
            "BrokenPipeError",
            "HTTPConnectionClosed",
            "SocketLost",
            "ServerDisconnectedError",
            "DisconnectedError",
            "ConnectionError",
        ),
    ),
    Row(
        "bad-answer",
        INFO,
        "an answer that is not what the route promises",
        names=("HTTPParseError", "BadAnswer", "JSONDecodeError"),
    ),
)

UNKNOWN = Row("unknown-error", INFO, "an error that is not in this table proves nothing")

_BY_STATUS = {status: row for row in TABLE for status in row.statuses}


def classify(error: int | BaseException | str, *, detail: bool = True) -> tuple[str, str]:
    """Return (outcome, code) of an HTTP status, an exception, or a Redis error's text.

    Outcome is `fail` (definitely did not happen) or `info` (nobody knows). A 503 counts as
    definite only with `detail`: without the application's own words it may come from something
    in between, after the effect.
    """
    row = find_row(error, detail=detail)
    code = f"{row.code}-{error}" if isinstance(error, int) else row.code
    return row.outcome, code


def find_row(error: int | BaseException | str, *, detail: bool = True) -> Row:
    """Return the table's first row that fits, or UNKNOWN."""
    if isinstance(error, int):
        if error == SERVICE_UNAVAILABLE and not detail:
            return _BY_STATUS[502]
        return _BY_STATUS.get(error, UNKNOWN)
    number = getattr(error, "errno", None)
    names = {cls.__name__ for cls in type(error).__mro__}
    text = str(error)
    return next((row for row in TABLE if _fits(row, number, names, text)), UNKNOWN)


def _fits(row: Row, number: int | None, names: set[str], text: str) -> bool:
    return (
        number in row.errnos
        or not names.isdisjoint(row.names)
        or text.startswith(row.starts)
        or any(word in text for word in row.words)
    )


def table_markdown() -> str:
    """Return the table as Markdown, for the documentation."""
    head = "| code | means | recognised by | why |\n|---|---|---|---|\n"
    return head + "".join(_markdown(row) for row in (*TABLE, UNKNOWN))


def _markdown(row: Row) -> str:
    meaning = "did not happen" if row.outcome == FAIL else "nobody knows"
    return f"| `{row.code}` | {meaning} | {_marks(row)} | {row.why} |\n"


def _marks(row: Row) -> str:
    statuses = (
        f"{row.statuses[0]}-{row.statuses[-1]}" if len(row.statuses) > 5 else _join(row.statuses)
    )
    errnos = _join(errno.errorcode[number] for number in row.errnos)
    words = _join(f"`{word.strip()}`" for word in (*row.starts, *row.words))
    parts = (statuses, errnos, _join(row.names), words)
    return "; ".join(part for part in parts if part) or "anything else"


def _join(items: object) -> str:
    return ", ".join(str(item) for item in items)  # type: ignore[attr-defined]  # any iterable
