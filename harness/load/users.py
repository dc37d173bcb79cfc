"""The closed-loop users: each has a socket on one worker and chats through the others."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
from locust import User, task
from locust.exception import StopUser

from harness.load.context import LoadContext
from harness.load.operations import Operations
from harness.load.sockets import UserSocket
from harness.load.streams import Stream
from harness.targets.base import SESSION_DATA

END_TOLERANCE_S = 10.0  # how much longer than its due time a user waits for a chat's end
LATE_TOLERANCE_S = 3.0  # the same once the load is over
RAMP_S = 2.0  # users who come at once begin their first chat spread over this time


class ChatUser(User):
    """One user: chat, look around while it streams, think, again. A subclass binds the run."""

    abstract = True
    shared: LoadContext
    operations: Operations
    numbers: Iterator[int]
    sockets: dict[int, UserSocket]

    def __init__(self, environment: object) -> None:
        super().__init__(environment)
        self.number = next(self.numbers)
        self.account = self.shared.accounts.users[self.number]
        self.choices = self.shared.choices(self.number)
        self.socket = UserSocket(self.shared, self.number, self.account)
        self.sockets[self.number] = self.socket
        self._chats = 0
        self._counter = 0
        self._previous: Stream | None = None
        self._windows: list[tuple[float, float]] = []
        self._there = False
        self._fresh = False  # came and has not chatted yet

    def on_start(self) -> None:
        """Connect, if the user is there from the start; then wait for the start of the load."""
        self.shared.counters.running += 1
        if self.shared.there_at_start(self.number):
            self._come()
        self.shared.started.wait()
        self._windows = self.shared.presence(self.number)
        gevent.sleep(max(0.0, self.shared.t0 - self.shared.clock.now()))

    @task
    def chat(self) -> None:
        """Do one round: a chat with other operations in between, then think."""
        if not self._present():
            self._leave()
            self.shared.counters.running -= 1
            raise StopUser
        if self._fresh:
            self._fresh = False
            gevent.sleep(self.choices.between(0, RAMP_S))
        chatting = bool(self.shared.accounts.model)
        stream = self._start() if chatting else None
        if not chatting:
            self._session_round()
            self.operations.me(self.account, self._any_worker())
        elif stream is not None:
            self._look_around(stream)
            self._await_end(stream)
            self._previous = stream
        if self.shared.over():
            return
        low, high = self.shared.scenario.load.think_s
        gevent.sleep(self.choices.between(low, high))

    def _present(self) -> bool:
        """Be where the plan wants the user: there, or away until its next window.

        Return False when there is none, or the load is over.
        """
        while self._windows and not self.shared.over():
            start, end = self._windows[0]
            if self.shared.clock.now() >= end:
                self._windows.pop(0)
                continue
            if self.shared.clock.now() < start:
                self._leave()
                gevent.sleep(max(0.0, start - self.shared.clock.now()))
            self._come()
            return True
        return False

    def _come(self) -> None:
        if not self._there:
            self._there = self._fresh = True
            self.shared.counters.users += 1
            self.socket.start()

    def _leave(self) -> None:
        """Leave; the socket of a user who stays to the end is closed after the last look."""
        if not self._there:
            return
        self._there = False
        self.shared.counters.users -= 1
        if not self.shared.over():
            self.socket.close()

    def _start(self) -> Stream | None:
        """Start a chat on another worker than the socket's; return None when it did not."""
        shared = self.shared
        left = shared.t0 + shared.length - shared.clock.now()
        if not self.socket.connected.wait(max(0.0, min(left, END_TOLERANCE_S))):
            return None
        chats = shared.scenario.load.chats
        name = f"c{self.number}-{self._chats}"
        self._chats += 1
        stream = Stream(name, self.number, chats.tokens, chats.tokens_per_s)
        worker = shared.other_worker(self.choices, self.socket_worker)
        socket = (self.socket.name, self.socket.sid)
        answer = self.operations.chat_start(self.account, worker, stream, socket)
        return stream if answer.ok else None

    @property
    def socket_worker(self) -> int:
        """Return the worker that holds the socket."""
        return self.shared.home(self.number)

    def _look_around(self, stream: Stream) -> None:
        """Do what users do while an answer streams; ends early when the stream does."""
        errands = (
            lambda: self._list(stream),
            self._session_round,
            lambda: self.operations.me(self.account, self._any_worker()),
            self._list_previous,
        )
        for errand in errands:
            stream.ended.wait(self.choices.between(0.1, 0.2) * self.shared.stream_seconds)
            if stream.ended.is_set():
                return
            errand()

    def _list(self, stream: Stream) -> None:
        worker = self.shared.other_worker(self.choices, self.socket_worker)
        self.operations.list_tasks(self.account, worker, stream)

    def _list_previous(self) -> None:
        """List a chat that ended long enough ago: nothing may be left of it."""
        previous = self._previous
        if not previous or not previous.ended_at:
            return
        if self.shared.clock.now() >= previous.ended_at + self.shared.unlisted_s:
            self.operations.list_tasks(self.account, self._any_worker(), previous)

    def _session_round(self) -> None:
        """Look for what the last round left; write on one worker, then read on every worker."""
        if SESSION_DATA not in self.shared.setup.capabilities:
            return
        if self._counter:
            self.operations.session_read(self.account, self._any_worker())
        self._counter += 1
        self.operations.session_write(self.account, self._any_worker(), self._counter)
        for worker in range(self.shared.workers):
            self.operations.session_read(self.account, worker)

    def _any_worker(self) -> int:
        return self.choices.below(self.shared.workers)

    def _await_end(self, stream: Stream) -> None:
        """Wait until the socket was told the end; note it when that is long overdue."""
        shared = self.shared
        late = min(
            stream.due_end + END_TOLERANCE_S,
            max(stream.due_end, shared.t0 + shared.length) + LATE_TOLERANCE_S,
        )
        if not stream.ended.wait(max(0.0, late - shared.clock.now())):
            shared.note(f"{stream.name}: not told its end by {late:.1f} s", level="warning")
