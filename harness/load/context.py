"""What all parts of one load process share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.event import Event

from harness.choices import Choices
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.history.writer import HistoryWriter
from harness.load.accounts import Accounts
from harness.load.rate import Rate
from harness.load.setup import LoadSetup
from harness.load.streams import Streams
from harness.plan import Plan, load_seconds
from harness.scenario import Scenario
from harness.shape import presence
from harness.vocabulary import default_bounds


@dataclass
class Counters:
    """Counts for the status file; `late` holds the seconds by which steps began late."""

    ops: int = 0
    errors: int = 0
    sockets: int = 0
    running: int = 0  # users that have not ended, whether they are there or yet to come
    users: int = 0  # users that are there now
    shed: int = 0
    late: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))


class LoadContext:
    """Plan, accounts, history and clock of one load process, and which users are its own."""

    def __init__(self, run: RunFolder, number: int, of: int) -> None:
        self.run = run
        self.number = number
        self.setup = LoadSetup.read(run)
        self.plan = Plan.from_json(run.plan.read_bytes())
        self.scenario = Scenario.model_validate(self.plan.scenario)
        self.accounts = Accounts.read(run.accounts)
        self.clock = RunClock(self.setup.base)
        self.writer = HistoryWriter(run.history, f"load-{number}", self.clock)
        self.counters = Counters()
        self.rate = Rate(self.setup.max_rate, self.clock.now)
        self.streams = Streams()
        self.of = of
        self.users = own_users(len(self.accounts.users), number, of, len(self.setup.urls))
        self.length = load_seconds(self.scenario)
        bounds = default_bounds() | self.scenario.bounds
        self.unlisted_s = (
            bounds.get("tasks_unlisted_s", 5.0) + 0.2
        )  # by then no end may still be listed
        self.t0 = 0.0
        self.started = Event()
        self.broken: list[str] = []  # errors of the load itself: they void its evidence

    def owns(self, user: int) -> bool:
        """Tell whether a user is of this process."""
        return process_of(user, self.of, self.workers) == self.number

    def presence(self, user: int) -> list[tuple[float, float]]:
        """Return the windows of run time in which a user is there; call it once `t0` is known."""
        return [(self.t0 + a, self.t0 + b) for a, b in presence(self.plan.shape, user)]

    def there_at_start(self, user: int) -> bool:
        """Tell whether a user is there from load second 0 on."""
        return presence(self.plan.shape, user)[0][0] <= 0.0

    @property
    def workers(self) -> int:
        """Return how many workers there are."""
        return len(self.setup.urls)

    @property
    def stream_seconds(self) -> float:
        """Return how long an unstopped chat streams."""
        chats = self.scenario.load.chats
        return chats.tokens / chats.tokens_per_s

    def choices(self, name: str | int) -> Choices:
        """Return the random stream of a user or a step of the plan."""
        return Choices(self.plan.seed, name)

    def over(self) -> bool:
        """Tell whether the load's time has passed: nobody starts anything new."""
        return self.clock.now() >= self.t0 + self.length

    def home(self, user: int) -> int:
        """Return the worker that holds the user's socket."""
        return user % self.workers

    def other_worker(self, choices: Choices, *but: int) -> int:
        """Return a worker that is none of `but`, as far as there are that many."""
        allowed = [w for w in range(self.workers) if w not in but]
        return pick(choices, allowed or [w for w in range(self.workers) if w != but[-1]] or [0])

    def note(self, text: str, level: str = "info") -> None:
        """Record something that a reader of the log should see."""
        self.writer.record("note", level=level, text=f"load-{self.number}: {text}")

    def pace(self) -> None:
        """Wait until one more request is allowed."""
        if wait := self.rate.take():
            gevent.sleep(wait)

    def spawn(self, work: Callable[..., object], *arguments: object) -> gevent.Greenlet:
        """Run work in a greenlet; an exception in it voids the load's evidence, never passes."""

        def guarded() -> None:
            try:
                work(*arguments)
            except Exception as error:  # recorded, then the process fails
                self.fault(f"{work.__qualname__}: {type(error).__name__}: {error}")

        return gevent.spawn(guarded)

    def fault(self, text: str) -> None:
        """Record an error of the load itself: the process will exit with status 1."""
        self.broken.append(text)
        self.note(text, level="error")


def process_of(user: int, of: int, workers: int) -> int:
    """Return the load process of a user.

    One user of every worker goes to the first process, one of every worker to the next, and so
    on: each process has sockets on all workers, and users who join later join all processes.
    """
    return user // workers % of


def own_users(total: int, number: int, of: int, workers: int) -> list[int]:
    """Return the global numbers of the users of process `number`."""
    return [user for user in range(total) if process_of(user, of, workers) == number]


def pick(choices: Choices, options: list[int]) -> int:
    """Return one of the options; consumes one choice."""
    return options[choices.below(len(options))]
