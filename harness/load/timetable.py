"""The open-loop timetable: steps begin at their planned times, however slow the target is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import gevent
from gevent.pool import Pool

from harness.load.accounts import Account
from harness.load.agreement import Agreement
from harness.load.context import LoadContext
from harness.load.hang_ups import hang_up
from harness.load.operations import Answer, Operations
from harness.load.session_ends import SessionEnds
from harness.load.sockets import UserSocket
from harness.load.streams import Stream
from harness.load.visits import Visits
from harness.plan import STREAMS_OUTLIVE_S, Step
from harness.targets.base import TASK_LIST

AT_ONCE = 4000  # steps under way; more than this is shed and recorded, never queued
OUTLIVES_S = 10.0  # a stop proves something when its stream would have gone on this long
HANG_UP_WITHIN_S = 0.15
PROBE_S = 3.0
FIRST_PROBE_PERIOD_S = 0.005
LONGEST_PROBE_PERIOD_S = 0.1


class Timetable:
    """Performs this process's steps of the plan; `signed_out` are tokens that must stay dead."""

    def __init__(
        self, context: LoadContext, operations: Operations, sockets: Mapping[int, UserSocket]
    ) -> None:
        self._context = context
        self._operations = operations
        self._sockets = sockets
        self._pool = Pool(AT_ONCE)
        self._do: dict[str, Callable[[Step, float], None]] = {
            "read": self._read,
            "stop": self._stop,
            "sign_out": self._sign_out,
            "token_look": self._token_look,
            "visit": Visits(context, operations).perform,
            "session_end": SessionEnds(context, operations).perform,
            **Agreement(context, operations).steps(),
            "hang_up": self._hang_up,
            "task_list": self._task_list,
        }
        self.signed_out: list[Account] = []

    def run(self) -> None:
        """Begin every step at its time; return when the last one has begun."""
        context = self._context
        for step in context.plan.timetable:
            if not context.owns(step.user):
                continue
            due = context.t0 + step.t
            gevent.sleep(max(0.0, due - context.clock.now()))
            context.counters.late.append(context.clock.now() - due)
            self._begin(step, due)

    @property
    def idle(self) -> bool:
        """Tell whether no step is under way."""
        return not self._pool

    def kill(self) -> None:
        """End what is still under way."""
        self._pool.kill()

    def _begin(self, step: Step, due: float) -> None:
        if self._pool.full():
            self._shed(step, f"{AT_ONCE} steps are under way")
            return
        self._pool.spawn(self._perform, step, due)

    def _perform(self, step: Step, due: float) -> None:
        try:
            self._do[step.do](step, due)
        except Exception as error:  # a defect of the load must not pass as silence
            self._context.fault(f"step {step.do} {step.k}: {type(error).__name__}: {error}")

    def _shed(self, step: Step, why: str) -> None:
        self._context.counters.shed += 1
        self._skip(step, why)

    def _skip(self, step: Step, why: str) -> None:
        self._context.note(f"shed {step.do} {step.k} due at {step.t:.3f} s: {why}", "warning")

    def _read(self, step: Step, due: float) -> None:
        """Ask who the user is; a balancer chooses the worker, as it does for browsers."""
        worker: int | None = None
        if not self._context.setup.balancer:
            worker = self._context.choices(f"read-{step.k}").below(self._context.workers)
        self._operations.me(self._context.accounts.users[step.user], worker, scheduled=due)

    def _stop(self, step: Step, due: float) -> None:
        """Start a long stream, and stop it from another worker a little later."""
        context, account = self._context, self._context.accounts.users[step.user]
        socket = self._sockets[step.user]
        if not socket.sid:
            self._skip(step, "the user's socket is not connected")
            return
        choices = context.choices(f"stop-{step.k}")
        owner = context.other_worker(choices, context.home(step.user))
        stopper = context.other_worker(choices, owner)
        rate = context.scenario.load.chats.tokens_per_s
        stream = Stream(f"s{step.k}", step.user, int(STREAMS_OUTLIVE_S * rate), rate)
        names = (socket.name, socket.sid)
        if not self._operations.chat_start(account, owner, stream, names, scheduled=due).ok:
            return
        stop_due = due + choices.between(*context.scenario.focus.stop_after_s)
        gevent.sleep(max(0.0, stop_due - context.clock.now()))
        outlives = stream.due_end - context.clock.now() > OUTLIVES_S
        by = "task" if step.k % 2 and context.accounts.admin.token else "chat"
        self._operations.stop(
            account,
            stopper,
            stream,
            by,
            scheduled=max(stop_due, stream.started_at),
            outlives=outlives,
        )

    def _sign_out(self, step: Step, due: float) -> None:
        """Sign a spare token out on one worker; probe it before and after on every worker."""
        context = self._context
        account = context.accounts.spare[step.k]
        workers = range(context.workers)
        self._everywhere(lambda w: self._operations.token_probe(account, w, "before"))
        worker = context.choices(f"sign_out-{step.k}").below(len(workers))
        if self._operations.sign_out(account, worker, scheduled=due).ok:
            self.signed_out.append(account)
            self._everywhere(lambda w: self._probe_until_dead(account, w))

    def _token_look(self, step: Step, _: float) -> None:
        """Try a token that was signed out before on every worker; nothing when there is none."""
        if not self.signed_out:
            return
        number = self._context.choices(f"token_look-{step.k}").below(len(self.signed_out))
        account = self.signed_out[number]
        self._everywhere(lambda w: self._operations.token_probe(account, w, "again"))

    def _hang_up(self, step: Step, due: float) -> None:
        """Ask some worker for the user's session, and leave before or after the answer."""
        context, account = self._context, self._context.accounts.users[step.user]
        choices = context.choices(f"hang_up-{step.k}")
        worker = choices.below(context.workers)
        hang_up(context, account, worker, choices.between(0, HANG_UP_WITHIN_S), due)

    def _task_list(self, step: Step, due: float) -> None:
        """List all running tasks, as the admin, on the workers in turn."""
        if TASK_LIST in self._context.setup.capabilities:
            admin, worker = self._context.accounts.admin, step.k % self._context.workers
            self._operations.list_all_tasks(admin, worker, due)

    def _everywhere(self, ask: Callable[[int], object]) -> None:
        jobs = [gevent.spawn(ask, worker) for worker in range(self._context.workers)]
        gevent.joinall(jobs, raise_error=True)

    def _probe_until_dead(self, account: Account, worker: int) -> None:
        """Probe until the worker refuses the token, or `PROBE_S` have passed."""
        clock, period = self._context.clock, FIRST_PROBE_PERIOD_S
        until = clock.now() + PROBE_S
        while not _dead(self._operations.token_probe(account, worker, "after")):
            if clock.now() >= until:
                return
            gevent.sleep(period)
            period = min(period * 2, LONGEST_PROBE_PERIOD_S)


def _dead(answer: Answer) -> bool:
    return answer.ok and not answer.body["alive"]
