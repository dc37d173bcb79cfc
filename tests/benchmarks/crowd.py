"""Many sockets from one load process, in stages that the benchmark measures between.

Run as `python -m tests.benchmarks.crowd MODE RUN SOCKETS`. After a stage it writes `said-N.json`
into the run's data folder and goes on when `go-N` appears there.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402  # after the patch
import gc  # noqa: E402  # after the patch
import time  # noqa: E402  # after the patch
from collections.abc import Iterator  # noqa: E402  # after the patch
from dataclasses import replace  # noqa: E402  # after the patch
from pathlib import Path  # noqa: E402  # after the patch
from typing import Any  # noqa: E402  # after the patch

import gevent  # noqa: E402  # after the patch
import orjson  # noqa: E402  # after the patch
import psutil  # noqa: E402  # after the patch
from gevent.pool import Pool  # noqa: E402  # after the patch
from locust.env import Environment  # noqa: E402  # after the patch

from harness.deploy.folder import RunFolder  # noqa: E402  # after the patch
from harness.files import write_whole  # noqa: E402  # after the patch
from harness.load.context import LoadContext  # noqa: E402  # after the patch
from harness.load.operations import Operations  # noqa: E402  # after the patch
from harness.load.sockets import UserSocket  # noqa: E402  # after the patch
from harness.load.streams import Stream  # noqa: E402  # after the patch
from harness.load.watch import Watch  # noqa: E402  # after the patch
from harness.waiting import wait_for_sync  # noqa: E402  # after the patch

AT_ONCE = 50  # sockets that are being opened
OPEN_S = 60.0
STAGE_S = 900.0
HOLD_S = 65.0  # two pings of 25 s, two heartbeats of 30 s
TOKENS, TOKENS_PER_S = 60, 2.0
SPREAD_S = 5.0  # over which the streams begin


class Crowd:
    """Sockets of the accounts in turn, opened a few at a time."""

    def __init__(self, run: RunFolder, sockets: int) -> None:
        self.context = LoadContext(run, 0, 1)
        self._sockets = sockets
        self._accounts = self.context.accounts.users
        self._stage = 0
        self.open: list[UserSocket] = []
        Watch(self.context).start()

    def add(self, until: int) -> None:
        """Open sockets until there are so many."""
        pool = Pool(AT_ONCE)
        for number in range(len(self.open), until):
            account = self._accounts[number % len(self._accounts)]
            socket = UserSocket(self.context, number, replace(account, name=f"u{number}"))
            self.open.append(socket)
            pool.spawn(_open, socket)
        pool.join(raise_error=True)

    def say(self, **facts: Any) -> None:
        """Tell the benchmark that a stage is over, and wait for its word."""
        gc.collect()
        rss = psutil.Process().memory_info().rss
        said = {"rss": rss, "cpu_s": time.process_time(), "open": self.connected, **facts}
        data = self.context.run.data
        write_whole(data / f"said-{self._stage}.json", orjson.dumps(said))
        wait_for_sync((data / f"go-{self._stage}").exists, STAGE_S, f"go-{self._stage}")
        self._stage += 1

    @property
    def connected(self) -> int:
        """Return how many sockets are open now."""
        return self.context.counters.sockets

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the history so far."""
        self.context.writer.flush()
        for line in self.context.writer.path.read_bytes().splitlines():
            yield orjson.loads(line)


def _open(socket: UserSocket) -> None:
    socket.start()
    if not socket.connected.wait(OPEN_S):
        raise TimeoutError(f"{socket.name} is not connected after {OPEN_S:g} s")


def idle(crowd: Crowd, sockets: int) -> None:
    """Open half, then all, then hold them."""
    crowd.say()
    for until in (sockets // 2, sockets):
        began = time.monotonic()
        crowd.add(until)
        crowd.say(took_s=time.monotonic() - began)
    gevent.sleep(HOLD_S)
    crowd.say(lost=sum(r["k"] == "socket" and r["event"] == "lost" for r in crowd.records()))


def streaming(crowd: Crowd, sockets: int) -> None:
    """Start a stream for every socket and wait for all ends; say what was received."""
    operations = Operations(crowd.context, Environment())
    crowd.add(sockets)
    crowd.say()
    streams = [_stream(crowd, operations, number) for number in range(sockets)]
    began = time.monotonic()
    jobs = [gevent.spawn_later(SPREAD_S * n / sockets, s) for n, s in enumerate(streams)]
    gevent.joinall(jobs, raise_error=True)
    took = time.monotonic() - began
    records = list(crowd.records())
    runs = [r for r in records if r["k"] == "run"]
    whole = sum((r["first"], r["last"]) == (0, TOKENS - 1) for r in runs)
    done = sum(r["k"] == "end" and r["event"] == "done" for r in records)
    lost = sum(r["k"] == "socket" and r["event"] == "lost" for r in records)
    tokens = sum(r["last"] - r["first"] + 1 for r in runs)
    crowd.say(took_s=took, whole=whole, done=done, lost=lost, tokens=int(tokens))


def _stream(crowd: Crowd, operations: Operations, number: int) -> Any:
    """Return what starts the stream of one socket at another worker, and waits for its end."""
    socket, account = crowd.open[number], crowd.context.accounts.users[number]
    worker = (crowd.context.home(number) + 1) % crowd.context.workers
    stream = Stream(f"c{number}-0", number, TOKENS, TOKENS_PER_S)

    def go() -> None:
        answer = operations.chat_start(account, worker, stream, (socket.name, socket.sid))
        assert answer.ok, answer
        stream.ended.wait(TOKENS / TOKENS_PER_S + OPEN_S)

    return go


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="crowd", description=__doc__)
    parser.add_argument("mode", choices=("idle", "streaming"))
    parser.add_argument("run", type=Path)
    parser.add_argument("sockets", type=int)
    chosen = parser.parse_args()
    made = Crowd(RunFolder(chosen.run), chosen.sockets)
    gc.freeze()
    gc.set_threshold(100_000)
    {"idle": idle, "streaming": streaming}[chosen.mode](made, chosen.sockets)
