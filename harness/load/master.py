"""`python -m harness.load.master`: the harness's end of the link to load machines.

One process of the run. For the harness it looks like local load processes: ready files, status
files and history files appear in the run's folder as if those had written them.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402  # after the patch
import signal  # noqa: E402  # after the patch
import sys  # noqa: E402  # after the patch
from importlib.metadata import version  # noqa: E402  # after the patch
from pathlib import Path  # noqa: E402  # after the patch
from typing import Any  # noqa: E402  # after the patch

import gevent  # noqa: E402  # after the patch
import orjson  # noqa: E402  # after the patch
from gevent.event import AsyncResult  # noqa: E402  # after the patch
from locust.env import Environment  # noqa: E402  # after the patch
from locust.rpc import Message  # noqa: E402  # after the patch
from locust.runners import STATE_MISSING, MasterRunner  # noqa: E402  # after the patch

from harness.clock import monotonic  # noqa: E402  # after the patch
from harness.deploy.folder import RunFolder  # noqa: E402  # after the patch
from harness.load import messages  # noqa: E402  # after the patch
from harness.load.machine import Machine  # noqa: E402  # after the patch
from harness.load.offset import Offset  # noqa: E402  # after the patch
from harness.load.setup import remote_setup_path, start_path  # noqa: E402  # after the patch
from harness.waiting import wait_for_sync  # noqa: E402  # after the patch

DISTRIBUTION = "redis-failover-harness"
START_S = 1200.0  # people start load machines by hand; the guardian ends us when it dies
ANSWER_S = 10.0
NO_FINAL = Offset(0.0, float("inf"))


class Master:
    """Gathers machines, hands out the plan, and writes what they send."""

    def __init__(self, run: RunFolder, bind: tuple[str, int], expected: int) -> None:
        self._run = run
        self._expected = expected
        self._greeted: dict[str, str] = {}  # machine → version of its harness
        self._machines: dict[str, Machine] = {}
        self._clock: AsyncResult[float] = AsyncResult()
        self._asked = (-1, "")
        runner: MasterRunner = Environment(user_classes=[]).create_master_runner(*bind)
        self._runner = runner
        for name, take in {
            messages.READY: Machine.ready,
            messages.STATUS: Machine.status,
            messages.HISTORY: Machine.history,
            messages.ENDED: Machine.ended,
        }.items():
            runner.register_message(name, self._listener(take))
        runner.register_message(messages.CLOCK, self._on_clock)
        runner.register_message(messages.HELLO, self._on_hello)

    def run(self) -> int:
        """Do everything; return 0 when every machine's load process ended well."""
        self._gather()
        wait_for_sync(self._run.accounts.exists, START_S, "accounts")
        for machine in self._machines.values():
            self._begin(machine)
        start = start_path(self._run)
        wait_for_sync(start.exists, START_S, "start file")
        self._tell(messages.START, orjson.loads(start.read_bytes()))
        wait_for_sync(self._all_done, START_S, "load machines end")
        for machine in self._machines.values():
            machine.close(self._measure(machine) if machine.over else NO_FINAL)
        self._tell(messages.OVER, {})
        self._runner.quit()
        return 0 if all(machine.well for machine in self._machines.values()) else 1

    def stop(self) -> None:
        """End the load early: machines flush and send what there is; `run` returns after that."""
        if not self._machines:
            sys.exit(128 + signal.SIGTERM)
        self._tell(messages.STOP, {})

    def _gather(self) -> None:
        """Wait for the machines; a number for each, in the order of their names."""
        print(f"waiting for {self._expected} load machines", flush=True)
        wait_for_sync(
            lambda: len(self._greeted) >= self._expected,
            START_S,
            f"{self._expected} load machines connect",
        )
        names = sorted(self._greeted)[: self._expected]
        for number, name in enumerate(names):
            machine = Machine(self._run, number, name)
            machine.offset = self._measure(machine)
            self._machines[name] = machine
            print(f"load-{number} is {name}, clock {machine.offset}", flush=True)

    def _begin(self, machine: Machine) -> None:
        """Send what a load process needs; its clock counts from our base."""
        setup = orjson.loads(remote_setup_path(self._run).read_bytes())
        setup["base"] += machine.offset.seconds
        fields = {
            "number": machine.number,
            "of": self._expected,
            "plan": self._run.plan.read_bytes(),
            "accounts": self._run.accounts.read_bytes(),
            "setup": orjson.dumps(setup),
        }
        self._runner.send_message(messages.BEGIN, fields, machine.name)

    def _tell(self, message: str, fields: dict[str, Any]) -> None:
        for name, machine in self._machines.items():
            if not machine.lost:
                self._runner.send_message(message, fields, name)

    def _measure(self, machine: Machine) -> Offset:
        return Offset.measure(monotonic, lambda n: self._ask(machine, n))

    def _ask(self, machine: Machine, n: int) -> float:
        self._clock, self._asked = AsyncResult(), (n, machine.name)
        self._runner.send_message(messages.CLOCK, {"n": n}, machine.name)
        theirs: float = self._clock.get(timeout=ANSWER_S)
        return theirs

    def _on_hello(self, msg: Message, **_: Any) -> None:
        ours = version(DISTRIBUTION)
        if msg.data["version"] == ours:
            self._greeted[msg.node_id] = ours
        else:
            print(f"{msg.node_id} has version {msg.data['version']}, expected {ours}", flush=True)

    def _on_clock(self, msg: Message, **_: Any) -> None:
        if (msg.data["n"], msg.node_id) == self._asked:
            self._clock.set(msg.data["t"])

    def _listener(self, take: Any) -> Any:
        def listen(msg: Message, **_: Any) -> None:
            if machine := self._machines.get(msg.node_id):
                take(machine, **(msg.data or {}))

        return listen

    def _all_done(self) -> bool:
        """Tell whether every machine has ended or was lost; Locust counts their heartbeats."""
        alive = {c.id for c in self._runner.clients.all if c.state != STATE_MISSING}
        for name, machine in self._machines.items():
            if name not in alive and not machine.over:
                machine.lose()
        return all(machine.over or machine.lost for machine in self._machines.values())


def main() -> int:
    """Run the master of the run that the arguments name."""
    parser = argparse.ArgumentParser(prog="harness.load.master", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--bind", required=True, help="address to listen at")
    parser.add_argument("--port", type=int, required=True, help="port to listen at")
    parser.add_argument("--expect", type=int, required=True, help="how many load machines")
    chosen = parser.parse_args()
    master = Master(RunFolder(chosen.run), (chosen.bind, chosen.port), chosen.expect)
    gevent.signal_handler(signal.SIGTERM, master.stop)
    return master.run()


if __name__ == "__main__":
    sys.exit(main())
