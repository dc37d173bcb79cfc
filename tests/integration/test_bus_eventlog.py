"""The event log on real servers: nothing lost, nothing twice, in order, whatever Redis does."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from bus_servers import SentinelSet, Server, topology_of, until

from runtime.redis.eventlog import EventLog
from runtime.redis.keys import Keys
from runtime.redis.topology import Topology

KEYS = Keys("test")


class Workers:
    """Three workers' ends of one log, and what each has heard."""

    def __init__(self, topologies: list[Topology]) -> None:
        self.topologies = topologies
        self.heard: list[list[str]] = [[] for _ in topologies]
        self.gaps: list[object] = []
        self.logs = [
            EventLog(
                topology,
                KEYS,
                f"w{n}",
                deliver=lambda _, payload, n=n: self.heard[n].append(payload.decode()),
                on_gap=self.gaps.append,
            )
            for n, topology in enumerate(topologies)
        ]
        self._sent = 0
        self._stop = False

    async def start(self) -> None:
        """Start all three and wait until they hear."""
        for log in self.logs:
            log.start()
        await until(lambda: all(log.caught_up for log in self.logs))

    async def stop(self) -> None:
        """Stop all."""
        for log in self.logs:
            await log.stop(flush=0.1)
        for topology in self.topologies:
            await topology.close()

    def publish(self, count: int) -> None:
        """Publish `count` events on each worker at once."""
        for _ in range(count):
            self._sent += 1
            for n, log in enumerate(self.logs):
                log.publish("", f"{n}:{self._sent}".encode())

    async def chatter(self) -> None:
        """Publish about 200 events a second on each worker until stopped."""
        while not self._stop:
            self.publish(1)
            await asyncio.sleep(0.005)

    async def during(self, trouble: Awaitable[None]) -> None:
        """Chatter while the trouble goes on; then everybody has heard everything."""
        task = asyncio.create_task(self.chatter())
        await trouble
        self.publish(20)
        self._stop = True
        await task
        await self.complete()

    async def complete(self) -> None:
        """Every worker has heard every other's events once, in order."""
        expected = [[f"{n}:{i}" for i in range(1, self._sent + 1)] for n in range(len(self.logs))]

        def heard_all() -> bool:
            others = (len(self.logs) - 1) * self._sent
            return all(len(heard) >= others for heard in self.heard)

        try:
            await until(heard_all)
        finally:
            for n, heard in enumerate(self.heard):
                for other in range(len(self.logs)):
                    from_other = [text for text in heard if text.startswith(f"{other}:")]
                    assert from_other == ([] if other == n else expected[other])
        assert self.gaps == []


@pytest.fixture
async def workers(server: Server) -> AsyncIterator[Workers]:
    """Give three workers on it."""
    workers = Workers([topology_of(server.url) for _ in range(3)])
    await workers.start()
    yield workers
    await workers.stop()


@pytest.fixture
async def sentinels(tmp_path: Path) -> AsyncIterator[SentinelSet]:
    """Give a primary, a replica, a sentinel."""
    servers = SentinelSet(tmp_path)
    try:
        await servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.fixture
async def failover_workers(sentinels: SentinelSet) -> AsyncIterator[Workers]:
    """Give three workers on them."""
    workers = Workers([topology_of(sentinels.settings()) for _ in range(3)])
    await workers.start()
    yield workers
    await workers.stop()


async def test_burst_arrives_once_and_in_order(workers: Workers) -> None:
    """2000 events published at once reach the others complete and ordered."""
    workers.publish(2000)
    await workers.complete()


async def test_restart_empty_loses_nothing(workers: Workers, server: Server) -> None:
    """A server that comes back without any data gets what it lost from the publishers."""

    async def trouble() -> None:
        await until(lambda: len(workers.heard[0]) > 50)
        server.kill()
        await until(lambda: not workers.logs[0].caught_up)
        server.start()
        await server.ready()
        await until(lambda: all(log.caught_up for log in workers.logs))

    await workers.during(trouble())


async def test_a_server_whose_clock_is_behind_is_heard(workers: Workers, server: Server) -> None:
    """Entries of a clock that was ahead are read; then the server is empty, its clock right.

    Its ids are older than all that was read, and than the workers' beginning: nobody is deaf.
    """
    ahead_ms = int(time.time() * 1000) + 3_600_000
    for log in workers.logs:
        log._reader._floor = ahead_ms
    await _entry(server, f"{ahead_ms + 1000}-0", "ghost", 1)
    await until(lambda: all(heard == ["ghost1"] for heard in workers.heard))
    server.kill()
    await until(lambda: not any(log.caught_up for log in workers.logs))
    server.start()
    await server.ready()
    await until(lambda: all(log.caught_up for log in workers.logs))
    for heard in workers.heard:
        heard.clear()
    workers.publish(20)
    await workers.complete()
    await _entry(server, "*", "new", 1)
    await _entry(server, "*", "new", 3)  # a hole, for which readers look back
    await until(lambda: all(log.status()["gaps"] for log in workers.logs))
    workers.publish(20)
    await until(lambda: all(sum(t[0] != "n" for t in heard) == 80 for heard in workers.heard))


async def _entry(server: Server, identifier: str, origin: str, number: int) -> None:
    """Append what a worker would, under an id of our choice."""
    fields = ("o", origin, "s", number, "r", "", "d", f"{origin}{number}", "g", 0)
    await server.call("XADD", KEYS.events, identifier, *fields)


async def test_killed_connections_lose_nothing(workers: Workers, server: Server) -> None:
    """CLIENT KILL of all connections, three times, is not noticed by anybody who listens."""

    async def trouble() -> None:
        for _ in range(3):
            before = [log.status()["reconnects"] for log in workers.logs]
            await server.call("CLIENT", "KILL", "TYPE", "normal")
            await until(
                lambda before=before: all(
                    log.status()["reconnects"] >= b + 2
                    for log, b in zip(workers.logs, before, strict=True)
                )
            )

    await workers.during(trouble())


async def test_flushed_server_loses_nothing(workers: Workers, server: Server) -> None:
    """FLUSHALL, which closes no connection, is noticed and made good."""

    async def trouble() -> None:
        await until(lambda: len(workers.heard[0]) > 50)
        await server.call("FLUSHALL")
        await until(lambda: server.call("EXISTS", KEYS.events))

    await workers.during(trouble())


async def test_hung_server_loses_nothing(workers: Workers, server: Server) -> None:
    """A server that is stopped and goes on repeats and loses nothing."""

    async def trouble() -> None:
        server.signal(signal.SIGSTOP)
        await until(lambda: not any(log.caught_up for log in workers.logs))
        server.signal(signal.SIGCONT)
        await until(lambda: all(log.caught_up for log in workers.logs))

    await workers.during(trouble())


async def test_failover_loses_nothing(failover_workers: Workers, sentinels: SentinelSet) -> None:
    """The primary is killed; what the replica had not got is sent again."""
    workers = failover_workers

    async def trouble() -> None:
        await until(lambda: len(workers.heard[0]) > 50)
        old = await sentinels.primary()
        sentinels.nodes[0].kill()
        await until(lambda: _moved(sentinels, old))
        await until(lambda: all(log.caught_up for log in workers.logs))

    await workers.during(trouble())


async def test_zombie_primary_loses_nothing(
    failover_workers: Workers, sentinels: SentinelSet
) -> None:
    """The primary hangs, is replaced, and wakes up still believing that it is the primary."""
    workers = failover_workers

    async def trouble() -> None:
        await until(lambda: len(workers.heard[0]) > 50)
        old = await sentinels.primary()
        sentinels.nodes[0].signal(signal.SIGSTOP)
        await until(lambda: _moved(sentinels, old))
        sentinels.nodes[0].signal(signal.SIGCONT)
        await until(lambda: all(log.caught_up for log in workers.logs))

    await workers.during(trouble())


async def _moved(sentinels: SentinelSet, old: int) -> bool:
    return await sentinels.primary() != old
