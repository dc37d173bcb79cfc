"""`python -m harness.load.remote`: a load machine. Runs one load process for a run elsewhere.

Connects to the run's master, gets plan, accounts and addresses, runs an ordinary load process in a
temporary folder, and sends everything that it writes to the master while it goes on.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402  # after the patch
import signal  # noqa: E402  # after the patch
import sys  # noqa: E402  # after the patch
import tempfile  # noqa: E402  # after the patch
import time  # noqa: E402  # after the patch
from collections.abc import Callable  # noqa: E402  # after the patch
from importlib.metadata import version  # noqa: E402  # after the patch
from pathlib import Path  # noqa: E402  # after the patch
from typing import Any  # noqa: E402  # after the patch

import gevent  # noqa: E402  # after the patch
from gevent.event import Event  # noqa: E402  # after the patch
from locust.env import Environment  # noqa: E402  # after the patch
from locust.rpc import Message  # noqa: E402  # after the patch
from locust.runners import WorkerRunner  # noqa: E402  # after the patch

from harness.clock import monotonic  # noqa: E402  # after the patch
from harness.deploy.folder import RunFolder  # noqa: E402  # after the patch
from harness.errors import UserError  # noqa: E402  # after the patch
from harness.load import messages  # noqa: E402  # after the patch
from harness.load.local import LocalLoad  # noqa: E402  # after the patch

PERIOD_S = 0.2
SILENCE_S = 15.0  # it answers every heartbeat, one a second
OVER_S = 30.0  # the master measures the clock once more before it lets us go
NO_MASTER = 1


class Remote:
    """Follows the master's messages; the load process itself knows nothing of the link."""

    def __init__(self, master: tuple[str, int], allowed: frozenset[str], folder: Path) -> None:
        self._allowed = allowed
        self._load = LocalLoad(RunFolder.create(folder))
        self._begun, self._over = Event(), Event()
        self._wrong = ""
        runner: WorkerRunner = Environment(user_classes=[]).create_worker_runner(*master)
        self._runner = runner
        handlers: dict[str, Callable[..., None]] = {
            messages.CLOCK: self._clock,
            messages.BEGIN: self._begin,
            messages.START: lambda msg, **_: self._load.start(msg.data["t0"]),
            messages.STOP: lambda **_: self._load.end(),
            messages.OVER: lambda **_: self._over.set(),
        }
        for name, take in handlers.items():
            runner.register_message(name, take)

    def run(self) -> int:
        """Do one run; return the load process's exit status. Raises UserError."""
        self._runner.send_message(messages.HELLO, {"version": version("redis-failover-harness")})
        print("connected; waiting for the run to begin", flush=True)
        while not self._begun.wait(PERIOD_S):
            self._require_master()
        if self._wrong:
            self._runner.send_message(messages.ENDED, {"status": 3, "log": self._wrong})
            raise UserError(self._wrong)
        while self._load.exit_status is None:
            gevent.sleep(PERIOD_S)
            self._forward()
            self._require_master()
        self._forward()
        status = self._load.exit_status
        self._runner.send_message(messages.ENDED, {"status": status, "log": self._load.log_text()})
        self._over.wait(OVER_S)
        return status

    def end(self) -> None:
        """End the load process, as when the user presses Ctrl-C here."""
        self._load.end()
        sys.exit(128 + signal.SIGTERM)

    def _require_master(self) -> None:
        """Raise UserError, with the load ended, when the master has been silent for long."""
        heard = self._runner.last_heartbeat_timestamp
        if heard is not None and time.time() - heard > SILENCE_S:
            self._load.end()
            raise UserError(f"the master was silent for {SILENCE_S:g} s; the load was ended")

    def _forward(self) -> None:
        """Send what is new."""
        if self._load.newly_ready():
            self._runner.send_message(messages.READY, {})
        if status := self._load.status():
            self._runner.send_message(messages.STATUS, {"status": status})
        while data := self._load.new_history(messages.CHUNK):
            self._runner.send_message(messages.HISTORY, {"data": data})

    def _clock(self, msg: Message, **_: Any) -> None:
        t = monotonic()
        self._runner.send_message(messages.CLOCK, {"n": msg.data["n"], "t": t})

    def _begin(self, msg: Message, **_: Any) -> None:
        try:
            self._load.begin(self._allowed, **msg.data)
        except UserError as error:
            self._wrong = str(error)
        self._begun.set()


def main() -> int:
    """Run a load machine; 3 when load would go where it may not."""
    parser = argparse.ArgumentParser(prog="harness.load.remote", description=__doc__)
    parser.add_argument("--host", required=True, help="the master's address")
    parser.add_argument("--port", type=int, default=messages.DEFAULT_PORT, help="its port")
    parser.add_argument("--allow-host", action="append", default=[], help="where load may go")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-load-") as folder:
        try:
            remote = Remote((chosen.host, chosen.port), frozenset(chosen.allow_host), Path(folder))
            gevent.signal_handler(signal.SIGTERM, remote.end)
            gevent.signal_handler(signal.SIGINT, remote.end)
            return remote.run()
        except UserError as error:
            print(f"harness: {error}", file=sys.stderr)
            return 3
        except ConnectionError:
            print(f"harness: no master at {chosen.host}:{chosen.port}", file=sys.stderr)
            return NO_MASTER


if __name__ == "__main__":
    sys.exit(main())
