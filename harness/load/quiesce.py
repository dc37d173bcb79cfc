"""After the load: end what still runs, then look once more at everything that must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gevent
from gevent.pool import Pool

from harness.load.context import LoadContext
from harness.load.operations import Operations
from harness.load.streams import Stream
from harness.load.timetable import Timetable
from harness.targets.base import SESSION_DATA

AT_ONCE = 12
TRIES = 4
STREAMS_LISTED = 150  # of all chats, evenly chosen: the last look costs a request each
STOP_TOLERANCE_S = 5.0
RETRY_S = 0.25


class Quiesce:
    """The last look of one load process; call `run` once users and timetable are done."""

    def __init__(self, context: LoadContext, operations: Operations, timetable: Timetable) -> None:
        self._context = context
        self._operations = operations
        self._signed_out = timetable.signed_out
        self._pool = Pool(AT_ONCE)
        self._until = 0.0

    def run(self, until: float) -> None:
        """Stop leftovers; then final token probes, session reads and task lists.

        At `until` (run seconds) whatever is left is given up, with a note.
        """
        self._until = until
        self._stop_leftovers()
        self._all(partial(self._probe, account, w) for account, w in self._probes())
        if SESSION_DATA in self._context.setup.capabilities:
            self._all(partial(self._read, user, w) for user, w in self._reads())
        self._all(partial(self._list, stream) for stream in self._listed())

    def _all(self, jobs: Iterable[Callable[[], Any]]) -> None:
        for job in jobs:
            if self._context.clock.now() >= self._until:
                break
            self._pool.spawn(self._guard, job)
        left = max(0.0, self._until - self._context.clock.now())
        if not self._pool.join(left):
            self._context.note("last look: out of time", level="warning")
            self._pool.kill()

    def _guard(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except Exception as error:  # a defect of the load must not pass as silence
            self._context.fault(f"last look: {type(error).__name__}: {error}")

    def _stop_leftovers(self) -> None:
        """Stop streams whose stop was never acknowledged, as a user would press again."""
        left = [stream for stream in self._context.streams.all if stream.running]
        self._all(partial(self._stop, stream) for stream in left)
        until = self._context.clock.now() + STOP_TOLERANCE_S
        for stream in left:
            stream.ended.wait(max(0.0, until - self._context.clock.now()))

    def _stop(self, stream: Stream) -> None:
        account = self._context.accounts.users[stream.user]
        worker = self._context.home(stream.user)
        self._retry(
            lambda: self._operations.stop(account, worker, stream, "chat", outlives=False).ok
        )

    def _probes(self) -> Iterable[tuple[Any, int]]:
        return ((a, w) for a in self._signed_out for w in range(self._context.workers))

    def _probe(self, account: Any, worker: int) -> None:
        self._retry(lambda: self._operations.token_probe(account, worker, "final").ok)

    def _reads(self) -> Iterable[tuple[int, int]]:
        return ((u, w) for u in self._context.users for w in range(self._context.workers))

    def _read(self, user: int, worker: int) -> None:
        account = self._context.accounts.users[user]
        self._retry(lambda: self._operations.session_read(account, worker, when="final").ok)

    def _listed(self) -> list[Stream]:
        streams = [stream for stream in self._context.streams.all if stream.chat_id]
        every = max(1, -(-len(streams) // STREAMS_LISTED))
        return streams[::every]

    def _list(self, stream: Stream) -> None:
        """List the chat until it is empty, or until it has to be."""
        account = self._context.accounts.users[stream.user]
        worker = (stream.user + len(stream.tasks)) % self._context.workers
        until = (stream.ended_at or self._context.clock.now()) + self._context.unlisted_s
        while True:
            answer = self._operations.list_tasks(account, worker, stream, when="final")
            if (answer.ok and not answer.body["task_ids"]) or self._context.clock.now() > until:
                return
            gevent.sleep(RETRY_S)

    def _retry(self, attempt: Callable[[], bool]) -> None:
        for _ in range(TRIES):
            if attempt():
                return
            gevent.sleep(RETRY_S)
