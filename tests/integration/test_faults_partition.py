"""Partitions between real Redis nodes: cut off from each other, and from nobody else.

Packet rules need root; without it each test is skipped by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from harness.choices import Choices
from harness.deploy.clean import sweep
from harness.deploy.direct import direct
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import stat
from harness.deploy.lease import Lease
from harness.deploy.model import Node
from harness.deploy.spawner import Guardian
from harness.deploy.undo import entrance
from harness.faults.base import FaultError
from harness.faults.partition import Partition
from harness.faults.roles import resolve_nodes
from harness.faults.views import ask, read_role
from harness.network import firewall
from harness.plan import PlannedFault
from harness.scenario import Redis
from harness.waiting import wait_for, wait_for_sync
from runtime.redis.cluster import Cluster
from runtime.redis.wire import Address, Dial
from tests.integration.test_faults_redis import Bench, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def packet_filter(request: pytest.FixtureRequest) -> None:
    """Skip by name where there can be no packet rules."""
    if reason := firewall.missing():
        pytest.skip(f"{request.node.name}: {reason}")


def _rules(chain: str) -> list[str]:
    """Return the rules of a chain and into it."""
    table = firewall._run("iptables", "-S").splitlines()
    return [line for line in table if chain in line]


def _partition(bench: Bench, lasts: float = 60.0, **spec: Any) -> Partition:
    whole = {"kind": "partition", "peers": "all-peers", "mode": "held", "for_s": lasts, **spec}
    planned = PlannedFault("f0", 0.0, lasts, whole)
    fault = Partition(planned, bench.deployment, bench.context)
    assert fault.available() is None
    return fault


async def _begin(fault: Partition) -> str:
    """Inject the fault and return the evidence."""
    fault.target = await fault.aim()
    await fault.inject()
    return await fault.confirm()


async def _end(fault: Partition) -> str:
    """Heal the fault and return the evidence; its rules are gone."""
    await fault.heal()
    assert _rules(fault.chain) == []
    return await fault.confirm_heal()


async def _set(node: Node, key: str) -> str:
    """Write as a worker would that dials this node; return `ok` or the server's words."""
    client = direct(node)
    try:
        await client.set(key, "1")
    except RedisError as error:
        return f"{type(error).__name__} {error}"
    finally:
        await client.aclose()
    return "ok"


async def _get(node: Node, key: str) -> str | None:
    return await ask(node, lambda client: client.get(key))


@pytest.mark.slow
async def test_split_brain_under_sentinel(tmp_path: Path) -> None:
    """The isolated primary goes on acknowledging writes, and loses them when it is demoted."""
    async with running("sentinel", tmp_path, "processes") as bench:
        await bench.start()
        [name] = await resolve_nodes("primary", bench.deployment, Choices(1, "x"))
        old = bench.deployment.node(name)
        fault = _partition(bench, target="primary")
        evidence = await _begin(fault)
        assert "10 dials across no answer within 300 ms, all nodes reached from outside" in evidence
        assert "held for down by sentinel-0, sentinel-1, sentinel-2" in evidence
        await wait_for(lambda: bench.records("switch"), 20, "the switch")
        [switch] = bench.records("switch")
        assert switch["node"] != name
        role = await ask(old, read_role)
        assert role is not None
        assert role.name == "primary"
        assert await _set(old, "lost") == "ok"
        assert f"{name} is a replica again" in await _end(fault)
        assert await _get(old, "lost") is None


async def test_replicas_alone_are_cut_off_and_few_replicas_refuse_writes(tmp_path: Path) -> None:
    """Sentinels still see everybody, so nobody fails over; min-replicas-to-write stops writes."""
    async with running("sentinel", tmp_path, "processes") as bench:
        bench.redis = bench.redis.model_copy(
            update={"config": {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}}
        )
        await bench.start()
        [primary] = bench.deployment.nodes[:1]
        fault = _partition(bench, target="primary", peers="all-replicas", mode="reset")
        evidence = await _begin(fault)
        assert "redis-0 ↮ redis-1, redis-2: 4 dials across refused" in evidence
        assert "redis-1 has no link to redis-0, which has lost it" in evidence
        assert "held for down" not in evidence

        async def refused() -> bool:
            return "NOREPLICAS" in await _set(primary, "few")

        await wait_for(refused, 10, "writes are refused")
        assert "redis-0 is a primary again" in await _end(fault)
        assert await _set(primary, "enough") == "ok"
        assert bench.records("switch") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "redis"), [("held", Redis()), ("reset", Redis(auth="acl", tls="mutual"))]
)
async def test_a_minority_of_a_cluster(tmp_path: Path, mode: str, redis: Redis) -> None:
    """The majority promotes a replica; the isolated primary refuses writes, and comes back."""
    async with running("cluster", tmp_path, "processes") as bench:
        bench.redis = redis
        await bench.start()
        fault = _partition(bench, target="a-minority", mode=mode)
        evidence = await _begin(fault)
        primary, replica = (bench.deployment.node(name) for name in fault.target.nodes)
        assert "held for down by" in evidence
        assert f"has no link to {primary.name}" in evidence or "has heard nothing" in evidence
        await wait_for(lambda: bench.records("switch"), 20, "the switch")

        async def refused() -> bool:
            words = [await _set(primary, f"key-{number}") for number in range(40)]
            return any("ClusterDown" in each for each in words)

        await wait_for(refused, 10, "the isolated primary refuses writes")
        evidence = await _end(fault)
        assert f"{primary.name} is a replica again" in evidence
        assert f"{replica.name} is a replica again" in evidence


@pytest.mark.slow
async def test_a_worker_leaves_a_minority(tmp_path: Path) -> None:
    """Who asks an isolated node for the slot map, which answers, still learns of the failover."""
    async with running("cluster", tmp_path, "processes") as bench:
        await bench.start()
        fault = _partition(bench, target="a-minority")
        fault.target = await fault.aim()
        isolated = [bench.deployment.node(name).address for name in fault.target.nodes]
        topology = Cluster(isolated, Dial())
        try:
            key = await _key_of(topology, isolated[0])
            await fault.inject()
            await wait_for(lambda: bench.records("switch"), 20, "the switch")
            promoted = bench.deployment.node(bench.records("switch")[0]["node"]).address
            await wait_for(lambda: topology.current(key) == promoted, 10, "the worker knows it")
            await fault.heal()
        finally:
            await topology.close()


async def _key_of(topology: Cluster, address: Address) -> str:
    """Return a key that a node serves."""
    await topology.locate("any")
    return next(k for k in map(str, range(1000)) if topology.current(k) == address)


async def test_whoever_is_alone_cannot_be_cut_off(tmp_path: Path) -> None:
    """A partition with nobody on the other side is an error, and leaves no rule."""
    async with running("sentinel", tmp_path, "processes") as bench:
        await bench.start()
        fault = _partition(bench, target="all-replicas", peers="a-replica")
        fault.target = await fault.aim()
        with pytest.raises(FaultError, match="nobody is on the other side"):
            await fault.inject()
        assert _rules(fault.chain) == []


async def _blocked(folder: Path) -> tuple[Guardian, str]:
    """Return a run's guardian and a chain of packet rules that it was promised to take back."""
    run = RunFolder.create(folder)
    lease = Lease.acquire()
    guardian = await Guardian.start(run, lease)
    chain, network = f"harness-{lease.subnet}-f0", f"{lease.subnet}.0/24"
    run.undo.write_text(json.dumps({"chain": chain, "network": network}) + "\n")
    guardian.take_back(run.undo)
    firewall.block(chain, network, [(f"{lease.subnet}.10", f"{lease.subnet}.11")], "held")
    lease.close()
    assert f"-A {entrance(chain, network)}" in _rules(chain)
    return guardian, chain


async def test_an_orderly_end_removes_the_rules(tmp_path: Path) -> None:
    """Rules that were not healed go with the run, and it says so."""
    guardian, chain = await _blocked(tmp_path)
    await guardian.stop()
    assert (guardian.stopped or {})["undone"] == [f"removed the packet rules {chain}"]
    assert _rules(chain) == []


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_faults_partition import _blocked

async def main():
    _, chain = await _blocked(Path(sys.argv[1]))
    print(chain, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_sigkill_of_the_harness_removes_the_rules(tmp_path: Path) -> None:
    """The guardian takes back what nobody else is there to heal."""
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        chain = harness.stdout.readline().strip()
        assert _rules(chain)
        harness.kill()
    wait_for_sync(lambda: not _rules(chain), 10, "the rules are gone")


async def test_clean_removes_the_rules_of_a_killed_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGKILL of guardian and harness, `harness clean` finds what was promised."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    guardian, chain = await _blocked(tmp_path / "run")
    os.kill(guardian.pid, signal.SIGKILL)
    wait_for_sync(lambda: stat(guardian.pid)[:1] in ([], ["Z"]), 5, "the guardian is dead")
    await guardian.stop()
    done, ok = await asyncio.to_thread(sweep)
    assert ok
    assert f"removed the packet rules {chain}" in done[0]
    assert _rules(chain) == []


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without iptables there are no rules, and one line says what to install."""
    firewall.missing.cache_clear()
    monkeypatch.setattr(firewall, "PATH", "/nowhere")
    try:
        assert "install the package `iptables`" in firewall.missing()
    finally:
        firewall.missing.cache_clear()
