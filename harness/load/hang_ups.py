"""Users who hang up in the middle: a request is sent, and its connection closed soon after."""

from __future__ import annotations

import contextlib
import socket
import struct
from urllib.parse import urlsplit

import gevent

from harness.history.errors import classify
from harness.history.records import FAIL, OK
from harness.load.accounts import Account
from harness.load.context import LoadContext

PATH = "/api/v1/session/data"  # who asks, and what is in the session: several trips to Redis
CONNECT_S = 2.0
AT_ONCE = struct.pack("ii", 1, 0)  # close with RST, as a browser's killed tab or a proxy does


def hang_up(
    context: LoadContext, account: Account, worker: int, after_s: float, scheduled: float
) -> None:
    """Ask a worker for the session and close the connection after `after_s`, answered or not."""
    writer = context.writer
    args = {"session": account.name, "after_s": round(after_s, 4), "scheduled": scheduled}
    identity = writer.invoke("hang_up", worker=worker, **args)
    context.counters.ops += 1
    try:
        answered = _ask(context, account, worker, after_s)
    except OSError as error:
        _, code = classify(error)
        context.counters.errors += 1
        writer.complete(FAIL, identity, "hang_up", error=code, text=str(error))
    else:
        writer.complete(OK, identity, "hang_up", answered=answered)


def _ask(context: LoadContext, account: Account, worker: int, after_s: float) -> bool:
    """Return whether the answer had begun when the connection was closed."""
    entry = context.setup.entry
    url = urlsplit(entry.url(worker))
    headers = {"Host": url.netloc, **account.headers(), **entry.pin(worker)}
    lines = [f"GET {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    address = (url.hostname or "", url.port or 80)
    with socket.create_connection(address, CONNECT_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        gevent.sleep(after_s)
        connection.setblocking(False)
        answered = False
        with contextlib.suppress(BlockingIOError):
            answered = bool(connection.recv(1))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    return answered
