"""The load watches itself: a generator that is late or out of processor time proves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import orjson

from harness.load.context import LoadContext
from harness.load.setup import status_path, write_whole

FLUSH_S = 0.1
STATUS_S = 0.5
SAMPLE_S = 1.0


class Watch:
    """Flushes the history, rewrites the status file and records a sample a second."""

    def __init__(self, context: LoadContext) -> None:
        self._context = context
        self._cpu = time.process_time()
        self._wall = context.clock.now()
        self._late_ms = 0.0

    def start(self) -> None:
        """Begin all three, each in a greenlet of its own."""
        for period, job in (
            (FLUSH_S, self.flush),
            (STATUS_S, self.status),
            (SAMPLE_S, self.sample),
        ):
            self._context.spawn(_every, period, job)

    def flush(self) -> None:
        """Hand gathered records to the operating system."""
        self._context.writer.flush()

    def status(self) -> None:
        """Rewrite the status file."""
        context, counters = self._context, self._context.counters
        fields = {
            "ops": counters.ops,
            "errors": counters.errors,
            "users": counters.users,
            "sockets": counters.sockets,
            "streams": sum(stream.running for stream in context.streams.all),
            "shed": counters.shed,
            "late_ms": round(self._late_ms, 1),
        }
        write_whole(status_path(context.run, context.number), orjson.dumps(fields))

    def sample(self) -> None:
        """Record the second's lateness (99th percentile, ms) and share of one processor."""
        late = sorted(self._context.counters.late)
        self._context.counters.late.clear()
        self._late_ms = late[int(0.99 * (len(late) - 1))] * 1000 if late else 0.0
        cpu, wall = time.process_time(), self._context.clock.now()
        used = (cpu - self._cpu) / max(wall - self._wall, 1e-6)
        self._cpu, self._wall = cpu, wall
        self._context.writer.record(
            "sample",
            probe="load",
            process=self._context.number,
            late_ms=round(self._late_ms, 3),
            cpu=round(used, 3),
            ops=self._context.counters.ops,
            errors=self._context.counters.errors,
            sockets=self._context.counters.sockets,
        )


def _every(period: float, job: Callable[[], None]) -> None:
    while True:
        gevent.sleep(period)
        job()
