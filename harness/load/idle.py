"""Sockets beside the users' own, which only listen: further tabs, that come back when lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gevent.pool import Pool

from harness.load.context import LoadContext, process_of
from harness.load.sockets import UserSocket

AT_ONCE = 10  # sockets that connect at the same time before the load: nobody measures that
OPEN_S = 40.0


def idle_sockets(context: LoadContext) -> list[UserSocket]:
    """Return this process's share: `tab0`, `tab1`, … of the users in turn, on all workers."""
    users = context.accounts.users
    return [
        UserSocket(context, k % len(users), replace(users[k % len(users)], name=f"tab{k}"), k)
        for k in range(context.scenario.load.idle_sockets)
        if process_of(k, context.of, context.workers) == context.number
    ]


def come(sockets: Iterable[UserSocket]) -> None:
    """Connect them, a few at a time; who is not there in the end is missed by the caller."""
    pool = Pool(AT_ONCE)
    for socket in sockets:
        pool.spawn(_open, socket)
    pool.join()


def _open(socket: UserSocket) -> None:
    socket.start()
    socket.connected.wait(OPEN_S)
