"""Faults on real Redis topologies and real links: they happen, they heal, the probes see them.

Everything is tried on both hosts, processes and containers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.choices import Choices
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment, Host
from harness.deploy.redis import start_redis
from harness.deploy.spawner import Guardian
from harness.faults.context import FaultContext
from harness.faults.injector import KINDS, Injector
from harness.faults.roles import resolve_nodes
from harness.faults.views import ask, read_role
from harness.history.writer import HistoryWriter
from harness.network.links import Links
from harness.network.toxiproxy import start_toxiproxy
from harness.plan import Plan, PlannedFault
from harness.probes.base import Probe
from harness.probes.exits import ExitProbe
from harness.probes.redis import RedisProbe
from harness.probes.switch import switch_probe
from harness.scenario import Redis
from harness.targets import get_target
from harness.waiting import wait_for
from tests.integration.container_parts import host_named


class Bench:
    """A running topology with the probes that watch it, and the history that they write."""

    def __init__(
        self, topology: str, run: RunFolder, lease: Lease, guardian: Guardian, host: Host
    ) -> None:
        self.run = run
        self.guardian = guardian
        self.host = host
        self.redis = Redis()
        self.deployment = Deployment(topology, get_target("runtime"), lease.subnet)
        self.clock = RunClock()
        self.writer = HistoryWriter(run.history, "harness", self.clock)
        self.links: Links | None = None
        self.context: FaultContext
        self._probes: list[Probe] = []

    async def start(self, *, workers: int = 0) -> None:
        """Start Redis, the links of some workers that do not run, and the probes."""
        await start_redis(self.host, self.deployment, self.redis, self.run)
        if workers:
            await start_toxiproxy(self.guardian, self.deployment)
            self.links = Links(self.deployment)
            await self.links.create(workers)
        self.context = FaultContext(self.guardian, self.links, self.redis, self.run, self.clock)
        deployment, writer = self.deployment, self.writer
        self._probes = [
            ExitProbe(deployment, writer, self.context),
            switch_probe(deployment, writer),
            RedisProbe(deployment, writer),
        ]
        for probe in self._probes:
            await probe.start()

    async def inject(self, *specs: dict[str, Any], lasts: float = 0.4) -> None:
        """Run faults one after the other, each for `lasts` seconds."""
        faults = tuple(
            PlannedFault(f"f{i}", (lasts + 0.3) * i, (lasts + 0.3) * i + lasts, spec)
            for i, spec in enumerate(specs)
        )
        plan = Plan(1, {}, faults, (), ())
        injector = Injector(plan, self.deployment, self.context, self.writer, self.clock)
        assert injector.unavailable() == []
        await injector.run(self.clock.now())

    async def fail_over(self, spec: dict[str, Any], expected: str) -> str:
        """Inject a fault until the switch is seen, then heal it; return the heal's evidence."""
        planned = PlannedFault("f0", 0.0, 60.0, spec)
        fault = KINDS[spec["kind"]](planned, self.deployment, self.context)
        fault.target = await fault.aim()
        assert fault.target.nodes == [expected]
        await fault.inject()
        assert expected in await fault.confirm()
        await wait_for(lambda: self.records("switch"), 20, "the switch")
        await fault.heal()
        return await fault.confirm_heal()

    def roles(self, node: str) -> list[str]:
        """Return the roles that a node was seen in."""
        return [r["role"] for r in self.records("role") if r["node"] == node]

    def records(self, k: str) -> list[dict[str, Any]]:
        """Return all records of a kind so far."""
        self.writer.flush()
        return [
            r for r in map(orjson.loads, self.writer.path.read_bytes().splitlines()) if r["k"] == k
        ]

    def events(self, identity: str = "f0") -> dict[str, dict[str, Any]]:
        """Return event → record of one fault."""
        return {r["event"]: r for r in self.records("fault") if r["id"] == identity}

    async def stop(self) -> None:
        """Stop the probes."""
        await asyncio.gather(*(probe.stop() for probe in self._probes))
        self.writer.close()


@pytest.fixture(params=["processes", "containers"])
def host(request: pytest.FixtureRequest) -> str:
    """Return where Redis runs; skip containers by name without an engine."""
    if request.param == "containers":
        request.getfixturevalue("engine")
    name: str = request.param
    return name


@asynccontextmanager
async def running(topology: str, root: Path, host: str) -> AsyncIterator[Bench]:
    """Yield a bench whose processes and containers are gone afterwards."""
    run = RunFolder.create(root)
    async with AsyncExitStack() as stack:
        lease = Lease.acquire()
        guardian = await Guardian.start(run, lease)
        stack.push_async_callback(guardian.stop)
        place = host_named(host, guardian, run)
        stack.push_async_callback(place.close)
        bench = Bench(topology, run, lease, guardian, place)
        stack.push_async_callback(bench.stop)
        yield bench


def kill(target: str, restart: str = "kept") -> dict[str, Any]:
    """Return the spec of a kill."""
    return {"kind": "kill", "target": target, "restart": restart, "for_s": 1.0}


@pytest.mark.slow
async def test_standalone_kill_and_pause(host: str, tmp_path: Path) -> None:
    """The process really dies and really stops; the first PING after the restart is the switch."""
    async with running("standalone", tmp_path, host) as bench:
        await bench.start()
        before = bench.deployment.nodes[0].process
        await bench.inject(kill("primary"), {"kind": "pause", "target": "primary", "for_s": 1.0})
        killed, paused = bench.events("f0"), bench.events("f1")
        assert list(killed) == list(paused) == ["inject", "confirm", "heal", "confirm_heal"]
        assert killed["inject"]["nodes"] == ["redis-0"]
        assert killed["inject"]["loses_data"] is True  # kept, but persistence is none
        assert paused["inject"]["loses_data"] is False
        # A published port takes the dial and ends it: with a reset, when our PING was there before.
        turned_away = {"processes": "refuses", "containers": "(closes|resets)"}[host]
        evidence = killed["confirm"]["evidence"]
        assert re.search(f"ended by SIGKILL and {turned_away} connections", evidence)
        assert "state T, no PONG within 300 ms" in paused["confirm"]["evidence"]
        assert before is not None
        [ended] = bench.records("exit")
        assert (ended["pid"], ended["status"], ended["expected"]) == (before.pid, -9, True)
        [switch] = bench.records("switch")
        assert killed["heal"]["began"] <= switch["t"] <= paused["inject"]["t"]


@pytest.mark.slow
async def test_sentinel_failover(host: str, tmp_path: Path) -> None:
    """The first +switch-master is the switch; the killed primary comes back as a replica."""
    async with running("sentinel", tmp_path, host) as bench:
        await bench.start()
        [primary] = await resolve_nodes("primary", bench.deployment, Choices(1, "x"))
        evidence = await bench.fail_over(kill("primary"), primary)
        assert f"{primary} is a replica again" in evidence
        switch, *again = bench.records("switch")  # a starved machine may fail over once more
        assert switch["why"].startswith("+switch-master mymaster")
        assert switch["node"] != primary
        now = await resolve_nodes("primary", bench.deployment, Choices(1, "x"))
        assert now == [[switch, *again][-1]["node"]]
        await wait_for(lambda: bench.roles(primary)[-1] == "replica", 5, "its new role is seen")
        assert bench.roles(primary)[:2] == ["primary", "down"]


@pytest.mark.slow
async def test_cluster_failover(host: str, tmp_path: Path) -> None:
    """The first node that shows the promoted primary is the switch, and it is told once."""
    async with running("cluster", tmp_path, host) as bench:
        await bench.start()
        [primary] = await resolve_nodes("primary-of:tasks", bench.deployment, Choices(1, "x"))
        evidence = await bench.fail_over(kill("primary-of:tasks"), primary)
        assert f"{primary} is a replica again" in evidence
        switch, *again = bench.records("switch")  # a starved machine may fail over once more
        assert switch["node"] != primary
        now = await resolve_nodes("primary-of:tasks", bench.deployment, Choices(1, "x"))
        assert now == [[switch, *again][-1]["node"]]
        role = await ask(bench.deployment.node(now[0]), read_role)
        assert role is not None
        assert role.name == "primary"


CUTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "cut", "mode": "held"}, "no PONG within 30"),
    ({"kind": "cut", "mode": "refused"}, "new one refused"),
    ({"kind": "cut", "mode": "reset"}, "new one reset"),
    ({"kind": "latency", "latency_ms": 80, "jitter_ms": 0}, "PONG after"),
]


@pytest.mark.slow
async def test_links_of_one_worker(host: str, tmp_path: Path) -> None:
    """Each link fault proves itself from outside and heals; nodes and others notice nothing."""
    async with running("standalone", tmp_path, host) as bench:
        await bench.start(workers=2)
        specs = [{**cut, "target": "all-nodes", "workers": "worker:1"} for cut, _ in CUTS]
        await bench.inject(*specs, lasts=0.5)
        for number, (_, sentence) in enumerate(CUTS):
            events = bench.events(f"f{number}")
            assert list(events) == ["inject", "confirm", "heal", "confirm_heal"], events
            assert events["inject"]["workers"] == [1]
            assert sentence in events["confirm"]["evidence"]
            assert "PONG within" in events["confirm_heal"]["evidence"]
        assert bench.records("switch") == bench.records("exit") == []


async def test_links_carry_one_fault_at_a_time(host: str, tmp_path: Path) -> None:
    """A second fault on the same links is an error, and does not heal the first one."""
    async with running("standalone", tmp_path, host) as bench:
        await bench.start(workers=1)
        cut = {"kind": "cut", "mode": "refused", "target": "all-nodes", "workers": "worker:0"}
        faults = (PlannedFault("f0", 0.0, 0.6, cut), PlannedFault("f1", 0.2, 0.4, cut))
        plan = Plan(1, {}, faults, (), ())
        injector = Injector(plan, bench.deployment, bench.context, bench.writer, bench.clock)
        await injector.run(bench.clock.now())
        assert list(bench.events("f0")) == ["inject", "confirm", "heal", "confirm_heal"]
        assert list(bench.events("f1")) == ["error"]
        assert "carry another fault" in bench.events("f1")["error"]["text"]


async def test_cancellation_continues_a_paused_server(host: str, tmp_path: Path) -> None:
    """After an interruption nothing stays stopped."""
    async with running("standalone", tmp_path, host) as bench:
        await bench.start()
        pause = {"kind": "pause", "target": "primary", "for_s": 60.0}
        task = asyncio.create_task(bench.inject(pause, lasts=60.0))
        await wait_for(lambda: "confirm" in bench.events(), 5, "it is paused")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "heal" in bench.events()
        assert await ask(bench.deployment.nodes[0], read_role) is not None


async def test_a_process_that_dies_by_itself_is_no_fault(host: str, tmp_path: Path) -> None:
    """An exit that no fault meant is recorded as unexpected."""
    async with running("standalone", tmp_path, host) as bench:
        await bench.start()
        process = bench.deployment.nodes[0].process
        assert process is not None
        process.signal(15)
        await wait_for(lambda: bench.records("exit"), 5, "the exit is noticed")
        [ended] = bench.records("exit")
        assert (ended["name"], ended["expected"]) == ("redis-0", False)
