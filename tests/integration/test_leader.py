"""One leader among several, through outages, data loss, and the loss of the leader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bus_servers import serving, until
from pool_backends import KINDS, Backend, backend_of

from runtime.realtime.leader import Deposed, Leader, run_when_leading
from runtime.redis.client import RedisClient
from runtime.redis.factory import topology_from
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.supervision import Supervisor

KEYS = Keys("test")


class Candidate:
    """A worker that campaigns; `ran` are the fences under which its job ran."""

    def __init__(self, environ: dict[str, str], name: str, ttl_s: float) -> None:
        settings = load_settings(environ)
        topology = topology_from(settings)
        self.client = RedisClient(topology, settings) if topology else None
        if topology:
            topology.start()
        self.leader = Leader(self.client, KEYS, name, ttl_s)
        self.supervisor = Supervisor()
        self.ran: list[int] = []

    def start(self) -> None:
        """Campaign, and work when elected."""
        self.supervisor.run("leader", self.leader.campaign)
        run_when_leading(self.supervisor, self.leader, "job", 0.05, self._work)

    async def _work(self, fence: int) -> None:
        self.ran.append(fence)

    async def crash(self) -> None:
        """Stop without releasing anything."""
        await self.supervisor.stop()

    async def close(self) -> None:
        """Release the lease and everything else."""
        await self.leader.release()
        await self.supervisor.stop()
        if self.client:
            await self.client.close()
            await self.client.topology.close()


@asynccontextmanager
async def candidates(backend: Backend, ttl_s: float) -> AsyncIterator[list[Candidate]]:
    """Give two that campaign."""
    found = [Candidate(backend.environ, f"w{n}", ttl_s) for n in range(2)]
    for candidate in found:
        candidate.start()
    try:
        yield found
    finally:
        for candidate in found:
            await candidate.close()


async def elected(among: list[Candidate]) -> Candidate:
    """Return the only one that leads."""

    def found() -> Candidate | None:
        leading = [candidate for candidate in among if candidate.leader.fence]
        assert len(leading) < 2
        return leading[0] if leading else None

    leader: Candidate = await until(found)
    return leader


async def test_a_lease_of_a_clock_that_was_ahead_is_over(tmp_path: Path) -> None:
    """Its holder is dead and the server's clock was set back: nobody waits till it catches up."""
    async with serving(tmp_path) as server:
        ahead = int(time.time() * 1000) + 3_600_000
        lease = ("holder", "dead", "fence", ahead, "until", ahead)
        await server.call("HSET", KEYS.leader("maintenance"), *lease)
        candidate = Candidate({"REDIS_URL": server.url}, "w0", 30)
        candidate.start()
        assert await until(lambda: candidate.leader.fence) == ahead + 1
        await candidate.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "alone"])
async def test_one_leads_and_hands_over(kind: str, tmp_path: Path) -> None:
    """Only the leader's job runs; on shutdown the other one leads at once, under a higher fence."""
    async with backend_of(kind, tmp_path) as backend, candidates(backend, 30) as both:
        first = await elected(both)
        (other,) = [candidate for candidate in both if candidate is not first]
        await until(lambda: len(first.ran) > 3)
        assert other.ran == []
        await first.leader.release()
        other.leader._stopped = False
        await other.supervisor.stop()  # its campaign sleeps for a third of the lease; begin anew
        other.start()
        await until(lambda: other.ran)
        assert min(other.ran) > max(first.ran)


async def test_alone_one_always_leads() -> None:
    """Without Redis there is nobody to compete with."""
    candidate = Candidate({}, "w0", 5)
    candidate.start()
    await until(lambda: len(candidate.ran) > 2)
    await candidate.close()


async def test_a_dead_leader_is_replaced(tmp_path: Path) -> None:
    """The lease of a leader that says nothing ends by the server's clock."""
    async with backend_of("standalone", tmp_path) as backend, candidates(backend, 1) as both:
        first = await elected(both)
        fence = first.leader.fence
        await first.crash()
        (other,) = [candidate for candidate in both if candidate is not first]
        await until(lambda: other.ran)
        assert other.ran[0] > fence
        await until(lambda: first.leader.fence == 0)  # it knows by its own clock


async def test_leading_resumes_after_every_loss(tmp_path: Path) -> None:
    """An outage longer than the lease ends the leading, not the campaign; nor does lost data."""
    async with serving(tmp_path) as server:
        backend = Backend("standalone", {"REDIS_URL": server.url}, [server])
        async with candidates(backend, 1) as both:
            fences = [(await elected(both)).leader.fence]
            for _ in range(2):
                server.kill()
                await until(lambda: not any(candidate.leader.fence for candidate in both))
                server.start()  # empty
                fences.append((await elected(both)).leader.fence)
            await backend.flush()
            await until(lambda: any(c.leader.fence > fences[-1] for c in both))
        assert fences == sorted(set(fences))


async def test_a_refused_job_deposes_and_the_campaign_goes_on(tmp_path: Path) -> None:
    """When a script says that a newer leader works, the job stops until the lease is claimed."""
    async with backend_of("standalone", tmp_path) as backend:
        candidate = Candidate(backend.environ, "w0", 1)
        refused = asyncio.Event()

        async def job(_: int) -> None:
            if not refused.is_set():
                refused.set()
                raise Deposed

        candidate._work = job  # type: ignore[method-assign]  # plays another job
        candidate.start()
        await until(refused.is_set)
        await until(lambda: candidate.leader.fence)
        await candidate.close()
