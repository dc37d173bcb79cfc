"""The load watches itself: a generator that is late or out of processor time proves nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection

import gevent
import orjson
from gevent.threadpool import ThreadPool

from harness.files import write_whole
from harness.load.context import LoadContext
from harness.load.setup import status_path

PASS_ON_S = 0.1
STATUS_S = 0.5
SAMPLE_S = 1.0
TICK_S = 0.02
UNRECORDED = 3  # exit status of a process that could not go on recording


class Watch:
    """Passes the history on, rewrites the status file and records a sample a second."""

    def __init__(self, context: LoadContext) -> None:
        self._context = context
        self._cpu = time.process_time()
        self._wall = context.clock.now()
        self._late_ms = 0.0
        self._ticks: list[float] = []
        self._disk = ThreadPool(1)  # one: they share the name of the unfinished file

    def start(self) -> None:
        """Begin all of it, each in a greenlet of its own."""
        self._context.spawn(self._tick)
        for period, job in (
            (PASS_ON_S, self.pass_on),
            (STATUS_S, self.status),
            (SAMPLE_S, self.sample),
        ):
            self._context.spawn(_every, period, job)

    def pass_on(self) -> None:
        """Pass the history on; end the process at once when it is not taken: the disk is full."""
        try:
            self._context.writer.pass_on()
        except OSError as error:
            said = f"its history is not taken: {error.filename}: {error.strerror}"
            with contextlib.suppress(OSError):  # the log may lie on the same disk
                print(f"load-{self._context.number} ends, {said}", flush=True)
            os._exit(UNRECORDED)

    def status(self) -> None:
        """Rewrite the status file, in a thread: a slow disk holds up nobody else."""
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
        path = status_path(context.run, context.number)
        self._disk.apply(write_whole, (path, orjson.dumps(fields)))

    def _tick(self) -> None:
        """Measure how late a timer fires: a process without steps can be too slow as well."""
        while True:
            due = self._context.clock.now() + TICK_S
            gevent.sleep(TICK_S)
            self._ticks.append(self._context.clock.now() - due)

    def sample(self) -> None:
        """Record the second's lateness (99th percentile, ms) and share of one processor.

        Late are steps that began after their time, or timers, whichever is worse.
        """
        self._late_ms = max(_p99_ms(self._context.counters.late), _p99_ms(self._ticks))
        self._context.counters.late.clear()
        self._ticks.clear()
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
            users=self._context.counters.users,
            shed=self._context.counters.shed,
        )


def _p99_ms(seconds: Collection[float]) -> float:
    late = sorted(seconds)
    return late[int(0.99 * (len(late) - 1))] * 1000 if late else 0.0


def _every(period: float, job: Callable[[], None]) -> None:
    while True:
        gevent.sleep(period)
        job()
