"""One load process from start to end. Imported only after gevent has patched the interpreter."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any

import gevent
import orjson
from locust import stats
from locust.env import Environment
from locust.runners import LocalRunner

from harness.deploy.folder import RunFolder
from harness.load.context import LoadContext
from harness.load.idle import come, idle_sockets
from harness.load.operations import Operations
from harness.load.quiesce import Quiesce
from harness.load.setup import ready_path, start_path
from harness.load.sockets import UserSocket
from harness.load.timetable import Timetable
from harness.load.users import LATE_TOLERANCE_S, ChatUser
from harness.load.watch import Watch
from harness.waiting import WaitTimeout, wait_for_sync

CONNECTED_S = 45.0
START_S = 600.0  # the harness may take its time; its guardian ends us when it dies
DRAIN_TOLERANCE_S = 6.0  # operations under way at the end may take this long
LAST_LOOK_S = 12.0
GC_THRESHOLD = 100_000
TERMINATED = 128 + signal.SIGTERM


class Generator:
    """Locust's users and the timetable of one process, over one history file."""

    def __init__(self, run: RunFolder, number: int, of: int) -> None:
        self.context = LoadContext(run, number, of)
        self.environment = Environment(user_classes=[])
        self.operations = Operations(self.context, self.environment)
        self.sockets: dict[int, UserSocket] = {}  # by user
        self.idle = idle_sockets(self.context)
        self.timetable = Timetable(self.context, self.operations, self.sockets)
        self.watch = Watch(self.context)
        self.environment.user_classes = [self._user_class()]
        self.environment.events.user_error.add_listener(  # type: ignore[no-untyped-call]  # Locust's
            self._user_error
        )
        self.runner = self.environment.create_local_runner()

    def run(self) -> int:
        """Do everything; return the process's exit code."""
        context = self.context
        self.watch.start()
        self._connect(self.runner)
        self._await_start()
        steps = gevent.spawn(self.timetable.run)
        self._await_load(steps)
        Quiesce(context, self.operations, self.timetable).run(context.clock.now() + LAST_LOOK_S)
        return self.finish()

    def finish(self) -> int:
        """Write open runs, close sockets and the history; return the exit code."""
        for socket in (*self.sockets.values(), *self.idle):
            socket.close()
        self.watch.sample()
        self.watch.status()
        if (rate := self.context.rate).late:
            said = f"--max-rate held back {rate.late} requests, up to {rate.longest:.1f} s"
            self.context.note(said, level="warning")
        self.context.note("finished" if not self.context.broken else "finished with errors")
        self.context.writer.flush()
        summary = stats.get_stats_summary(self.environment.stats, current=False)
        for line in (*summary, *self.context.broken):
            print(line)
        return 1 if self.context.broken else 0

    def _user_class(self) -> type[ChatUser]:
        """Return the user class of this run: Locust makes its users without arguments."""
        fields: dict[str, Any] = {
            "abstract": False,
            "shared": self.context,
            "operations": self.operations,
            "numbers": iter(self.context.users),
            "sockets": self.sockets,
        }
        return type("RunUser", (ChatUser,), fields)

    def _user_error(self, user_instance: ChatUser, exception: BaseException, **_: Any) -> None:
        self.context.fault(f"user {user_instance.number}: {type(exception).__name__}: {exception}")

    def _connect(self, runner: LocalRunner) -> None:
        """Spawn all users at once and say so when every socket is connected."""
        count = len(self.context.users)
        if count:
            runner.start(count, spawn_rate=count)
        come(self.idle)
        wait_for_sync(self._all_connected, CONNECTED_S, f"{count + len(self.idle)} sockets connect")
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        self.watch.status()
        ready_path(self.context.run, self.context.number).touch()

    def _all_connected(self) -> bool:
        first = sum(map(self.context.there_at_start, self.context.users))
        return self.context.counters.sockets == first + len(self.idle)

    def _await_start(self) -> None:
        path = start_path(self.context.run)
        wait_for_sync(path.exists, START_S, "start file")
        self.context.t0 = orjson.loads(path.read_bytes())["t0"]
        if self.context.scenario.load.session_cookies:
            self.context.accounts.bring_cookies()
        self.context.started.set()

    def _await_load(self, steps: gevent.Greenlet) -> None:
        """Wait until the load's time has passed and what it began has ended."""
        context = self.context
        gevent.sleep(max(0.0, context.t0 + context.length - context.clock.now()))
        patience = context.stream_seconds + LATE_TOLERANCE_S + DRAIN_TOLERANCE_S
        try:
            wait_for_sync(lambda: self._drained(steps), patience, "users and steps end")
        except WaitTimeout as error:  # their operations stay without outcome: nobody knows
            context.note(f"{error}; {context.counters.running} users left", level="warning")
        self.timetable.kill()
        self.runner.quit()

    def _drained(self, steps: gevent.Greenlet) -> bool:
        return steps.ready() and self.timetable.idle and self.context.counters.running == 0


def main(run: RunFolder, number: int, of: int) -> int:
    """Run one load process once there are accounts.

    SIGTERM ends it early, with its history flushed.
    """
    wait_for_sync(run.accounts.exists, START_S, "accounts")
    generator = Generator(run, number, of)
    gevent.signal_handler(signal.SIGTERM, _terminate, generator)
    return generator.run()


def _terminate(generator: Generator) -> None:
    try:
        generator.context.fault("ended early by SIGTERM")
        generator.finish()
        sys.stdout.flush()
    finally:  # also when the disk takes nothing more
        os._exit(TERMINATED)
