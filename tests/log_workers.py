"""Three workers' ends of one event log, each publishing 200 numbered events a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from harness.clock import monotonic
from harness.targets.base import RedisAccess
from harness.targets.runtime import redis_environment
from harness.waiting import wait_for
from runtime.redis.eventlog import EventLog
from runtime.redis.factory import topology_from
from runtime.redis.inbox import Gap
from runtime.redis.keys import Keys
from runtime.redis.topology import Topology
from runtime.settings import load_settings

KEYS = Keys("outage")
COUNT = 3
PER_S = 200
COMPLETE_S = 15.0


class LogWorker:
    """One worker: publishes on an absolute timetable, notes what it hears and when."""

    def __init__(self, number: int, topology: Topology) -> None:
        self.number = number
        self.topology = topology
        self.sent = 0
        self.gaps: list[Gap] = []
        # per other worker: the numbers in the order heard, (sent, heard) times in monotonic s
        self.heard: dict[int, list[int]] = {n: [] for n in range(COUNT) if n != number}
        self.times: dict[int, list[tuple[float, float]]] = {n: [] for n in self.heard}
        self.log = EventLog(topology, KEYS, f"w{number}", self._deliver, on_gap=self.gaps.append)

    async def publish_forever(self) -> None:
        """Publish PER_S events a second until cancelled; what a stall delayed follows at once."""
        began, first = monotonic(), self.sent
        while True:
            for _ in range(int((monotonic() - began) * PER_S) - (self.sent - first)):
                self.publish()
            await asyncio.sleep(1 / PER_S)

    def publish(self) -> None:
        """Publish the next event."""
        self.sent += 1
        self.log.publish("", f"{self.number} {self.sent} {monotonic()!r}".encode())

    def _deliver(self, _room: str, payload: bytes) -> None:
        origin, number, sent = payload.decode().split()
        self.heard[int(origin)].append(int(number))
        self.times[int(origin)].append((float(sent), monotonic()))


class LogWorkers:
    """All of them."""

    def __init__(self, access: RedisAccess) -> None:
        settings = load_settings(redis_environment(access))
        self.all: list[LogWorker] = []
        for number in range(COUNT):
            topology = topology_from(settings)
            assert topology is not None
            self.all.append(LogWorker(number, topology))
        self._publishers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start to read, then to publish."""
        for worker in self.all:
            worker.log.start()
        await wait_for(lambda: all(w.log.caught_up for w in self.all), 5, "logs caught up")
        self._publishers = [asyncio.create_task(w.publish_forever()) for w in self.all]
        await wait_for(lambda: self._all_heard(100), 10, "100 events heard from each other")

    async def hush(self) -> None:
        """Stop to publish."""
        for task in self._publishers:
            task.cancel()
        await asyncio.gather(*self._publishers, return_exceptions=True)

    async def stop(self) -> None:
        """End everything."""
        await self.hush()
        for worker in self.all:
            await worker.log.stop(flush=0.0)
            await worker.topology.close()

    async def judge(self) -> None:
        """Everybody heard everything of the others exactly once, in order, and nothing else."""
        await self.hush()
        with suppress(Exception):  # the assertions below say what is missing
            await wait_for(self._everything_heard, COMPLETE_S, "all events heard")
        for worker in self.all:
            assert worker.gaps == []
            for origin, numbers in worker.heard.items():
                faults = _faults(numbers, self.all[origin].sent)
                assert not faults, f"worker {worker.number} from {origin}: {faults}"

    def recovery(self, up: float) -> float:
        """Return how long after `up` the last worker heard an event that another sent after it.

        Delivery is in order, so by then it had also heard all that was held back. Seconds.
        """
        return max(
            next(heard for sent, heard in times if sent >= up) - up
            for worker in self.all
            for times in worker.times.values()
        )

    async def hear(self, since: float) -> None:
        """Wait until everybody has heard events that the others sent after `since`."""

        def fresh() -> bool:
            every = [times for worker in self.all for times in worker.times.values()]
            return all(times and times[-1][0] > since for times in every)

        await wait_for(fresh, COMPLETE_S, "events sent after the outage")

    def _everything_heard(self) -> bool:
        # up to each one's own last number: they do not stop at the same one
        return all(
            numbers[-1] >= self.all[origin].sent
            for worker in self.all
            for origin, numbers in worker.heard.items()
        )

    def _all_heard(self, number: int) -> bool:
        every = [numbers for worker in self.all for numbers in worker.heard.values()]
        return all(numbers and numbers[-1] >= number for numbers in every)


def _faults(numbers: list[int], sent: int) -> list[str]:
    """Return the first places where the numbers are not 1, 2, 3, … to the last that was sent."""
    pairs = zip([0, *numbers], [*numbers, sent + 1], strict=True)
    return [f"{a} then {b}" for a, b in pairs if b != a + 1][:5]


@asynccontextmanager
async def log_workers(access: RedisAccess) -> AsyncIterator[LogWorkers]:
    """Run the workers."""
    workers = LogWorkers(access)
    try:
        await workers.start()
        yield workers
    finally:
        await workers.stop()
