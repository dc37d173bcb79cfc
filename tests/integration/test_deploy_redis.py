"""Redis topologies: healthy when they say so, and restarted nodes get their role back."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.cluster import RedisCluster

from harness.deploy.direct import direct, role_of
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost, server_version
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment, Node
from harness.deploy.redis import restart_node, start_redis
from harness.deploy.spawner import Guardian
from harness.errors import MissingPart, UserError
from harness.scenario import Redis
from harness.targets import get_target
from harness.waiting import wait_for


class Bench:
    """A guardian, and what a test deploys under it."""

    def __init__(self, guardian: Guardian, subnet: str, run: RunFolder) -> None:
        self.guardian = guardian
        self.subnet = subnet
        self.run = run

    async def start(self, topology: str, **redis: Any) -> Deployment:
        """Start a topology."""
        self.redis = Redis(**redis)
        self.deployment = Deployment(topology, get_target("runtime"), self.subnet)
        await start_redis(ProcessHost(self.guardian), self.deployment, self.redis, self.run)
        return self.deployment

    async def kill(self, node: Node) -> None:
        """End a node by SIGKILL."""
        assert node.process is not None
        node.process.signal(signal.SIGKILL)
        assert await node.process.wait(5) == -signal.SIGKILL

    async def restart(self, node: Node, *, empty: bool) -> None:
        """Start it again."""
        await restart_node(self.deployment, node, self.redis, empty)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench whose processes are gone afterwards."""
    run, lease = RunFolder.create(tmp_path / "run"), Lease.acquire()
    guardian = await Guardian.start(run, lease)
    yield Bench(guardian, lease.subnet, run)
    await guardian.stop()


async def _do(node: Node, *command: str) -> Any:
    client = direct(node)
    try:
        return await client.execute_command(*command)
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("persistence", "empty", "kept"),
    [("aof", False, "1"), ("aof", True, None), ("none", False, None), ("none", True, None)],
)
async def test_a_standalone_restart_keeps_what_it_says(
    bench: Bench, persistence: str, empty: bool, kept: str | None
) -> None:
    """Data survives SIGKILL with the append-only file, unless the restart is empty."""
    [node] = (await bench.start("standalone", persistence=persistence)).nodes
    before = node.process
    await _do(node, "SET", "key", "1")
    if persistence == "none":
        await _do(node, "SAVE")  # a dump that must not come back
    await bench.kill(node)
    await bench.restart(node, empty=empty)
    assert node.process is not before
    assert await _do(node, "GET", "key") == kept


async def test_sentinel_is_whole_and_a_late_primary_comes_back_as_replica(bench: Bench) -> None:
    """Everybody sees everybody at once; after its failover a primary follows the new one."""
    deployment = await bench.start("sentinel")
    assert [await role_of(node) for node in deployment.nodes] == ["primary", "replica", "replica"]
    for sentinel in deployment.sentinels:
        assert await role_of(sentinel) == "sentinel"
        assert await _do(sentinel, "SENTINEL", "CKQUORUM", "mymaster")
    old = deployment.nodes[0]
    await bench.kill(old)

    async def promoted() -> Node | None:
        found = [await _named(sentinel) for sentinel in deployment.sentinels]
        names = [n for n in deployment.nodes[1:] if found == [n.host] * 3]
        return names[0] if names and await role_of(names[0]) == "primary" else None

    new = await wait_for(promoted, 10, "every sentinel names a new primary")
    await _do(new, "SET", "key", "new")
    await bench.restart(old, empty=False)
    assert f"replicaof {new.host} {new.port}" in (old.directory / "redis.conf").read_text()
    assert await role_of(old) == "replica"
    assert await _do(old, "GET", "key") == "new"


async def test_nodes_that_are_back_before_a_failover_are_who_they_were(bench: Bench) -> None:
    """The primary is primary again and its replicas link; a sentinel is not counted twice."""
    deployment = await bench.start("sentinel", down_after_ms=30_000, persistence="aof")
    primary, replica, _ = deployment.nodes
    sentinel = deployment.sentinels[2]
    await _do(primary, "SET", "key", "1")
    for node in (primary, sentinel):
        await bench.kill(node)
        await bench.restart(node, empty=False)
    assert await role_of(primary) == "primary"
    assert await _do(primary, "GET", "key") == "1"

    async def linked() -> bool:
        return "master_link_status:up" in str(await _raw_info(replica))

    async def counted() -> bool:
        return "3 usable" in str(await _do(sentinel, "SENTINEL", "CKQUORUM", "mymaster"))

    await wait_for(linked, 10, "the replica is linked again")
    await wait_for(counted, 10, "all three sentinels are usable")


async def _named(sentinel: Node) -> str:
    host, _ = await _do(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
    return str(host)


async def _raw_info(node: Node) -> Any:
    client = direct(node)
    client.set_response_callback("INFO", lambda response, **_: response)
    try:
        return await client.execute_command("INFO", "replication")
    finally:
        await client.aclose()


async def test_cluster_is_whole_and_an_emptied_node_is_no_stranger(bench: Bench) -> None:
    """All slots are served; node i + 3 replicates node i, and does so again after losing all."""
    deployment = await bench.start("cluster")
    roles = [await role_of(node) for node in deployment.nodes]
    assert roles == ["primary"] * 3 + ["replica"] * 3
    client = RedisCluster(host=deployment.nodes[0].host, port=6379, decode_responses=True)
    async with client:
        for number in range(50):  # written to every primary at once: no CLUSTERDOWN, no MOVED loop
            assert await client.set(f"key-{number}", "1")
    replica = deployment.nodes[4]
    identity = await _do(replica, "CLUSTER", "MYID")
    await bench.kill(replica)
    await bench.restart(replica, empty=True)
    assert await _do(replica, "CLUSTER", "MYID") == identity
    assert await role_of(replica) == "replica"
    size = await _do(replica, "DBSIZE")
    assert size == await _do(deployment.nodes[1], "DBSIZE")
    assert size > 0


async def test_a_wrong_setting_shows_the_servers_own_words(bench: Bench) -> None:
    """A server that dies at start gives its status, its settings' file and its last lines."""
    with pytest.raises(UserError, match="redis-0 ended at start with status 1") as caught:
        await bench.start("standalone", config={"no-such-setting": "1"})
    assert "redis.conf" in str(caught.value)
    assert "no-such-setting" in str(caught.value)


@pytest.mark.parametrize(("topology", "port"), [("standalone", 6379), ("cluster", 16379)])
async def test_a_taken_port_is_named(bench: Bench, topology: str, port: int) -> None:
    """A port that is taken between lease and start, the bus port too, gives address and remedy."""
    with (
        socket.create_server((f"{bench.subnet}.10", port)),
        pytest.raises(UserError, match=r"redis-0: .*\.10:6379 .*is taken.*ss -ltnp"),
    ):
        await bench.start(topology)


async def test_a_missing_redis_server_says_how_to_get_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is started without redis-server."""
    monkeypatch.setenv("PATH", str(tmp_path))
    server_version.cache_clear()
    with pytest.raises(MissingPart, match=r"redis-server is not installed.*make setup.*apt-get"):
        await bench.start("sentinel")
    with pytest.raises(MissingPart, match="redis-server is not installed"):
        server_version()
    assert bench.guardian.processes == {}
