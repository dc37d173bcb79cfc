"""What the doctor finds of real servers: each fault is made on one that has none otherwise."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bus_servers import HOST, SentinelSet, Server, serving, until
from postgres_server import postgres
from redis.asyncio import Redis

from harness.cli import invoke
from harness.doctor.command import Asked
from harness.doctor.command import examine as examine_all
from runtime.operate.doctor import Use, examine
from runtime.settings import load_settings

GOOD = {
    "maxclients": "10000",
    "timeout": "1800",
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-lru",
    "save": "3600 1",
    "min-replicas-to-write": "1",
}
SECRET = "0123456789abcdef0123456789abcdef"


async def configure(server: Server, **changes: str) -> None:
    """Set a server as it should be, but for the changes."""
    for name, value in {**GOOD, **changes}.items():
        await server.call("CONFIG", "SET", name, value)


async def names(folder: Path, use: Use | None = None, **environ: str) -> set[str]:
    """Return the names of what the runtime's doctor finds; a missing SQLite file is no matter."""
    (folder / "runtime.db").touch()
    findings = await examine(load_settings({"DATA_DIR": str(folder), **environ}), use)
    assert all(f.evidence and f.consequence and f.fix for f in findings)
    return {finding.name for finding in findings}


FAULTS: list[tuple[dict[str, str], set[str]]] = [
    ({"maxclients": "500"}, {"maxclients-low"}),
    ({"timeout": "0"}, {"idle-connections-stay"}),
    ({"maxmemory-policy": "allkeys-lru"}, {"eviction-takes-sessions"}),
    ({"maxmemory": "0"}, {"memory-unbounded"}),
    ({"save": ""}, {"nothing-saved"}),
    ({"client-output-buffer-limit": "normal 1mb 512kb 60"}, {"output-buffer-small"}),
]


async def test_each_fault_of_a_server_is_found(tmp_path: Path) -> None:
    """One server, whose settings are changed one by one; without a change nothing is found."""
    async with serving(tmp_path) as server:
        await configure(server, **{"min-replicas-to-write": "0"})
        assert await names(tmp_path, REDIS_URL=server.url) == set()
        for change, expected in FAULTS:
            before = {name: (await server.call("CONFIG", "GET", name))[name] for name in change}
            for name, value in change.items():
                await server.call("CONFIG", "SET", name, value)
            assert await names(tmp_path, REDIS_URL=server.url) == expected
            for name, value in before.items():
                await server.call("CONFIG", "SET", name, value)
        crowd = Use(replicas=900)
        assert await names(tmp_path, crowd, REDIS_URL=server.url) == {"maxclients-low"}
        pubsub = {"WEBSOCKET_MANAGER": "redis-pubsub", "REDIS_URL": server.url}
        assert await names(tmp_path, **pubsub) == {"output-buffer-small"}


async def test_what_is_full_and_what_cannot_be_saved(tmp_path: Path) -> None:
    """Memory and clients near their limits, and a folder that is gone."""
    async with serving(tmp_path) as server:
        await configure(server, **{"min-replicas-to-write": "0"})
        used = int((await server.call("INFO", "memory"))["used_memory"])
        await server.call("CONFIG", "SET", "maxmemory", str(used * 11 // 10))
        assert await names(tmp_path, REDIS_URL=server.url) == {"memory-nearly-full"}
        await configure(server, maxclients="20", **{"min-replicas-to-write": "0"})
        async with _crowd(server, 17):
            found = await names(tmp_path, REDIS_URL=server.url)
            assert found == {"clients-nearly-full", "maxclients-low"}
        await configure(server, **{"min-replicas-to-write": "0"})
        shutil.rmtree(server.folder)
        await server.call("BGSAVE")
        await until(lambda: _save_failed(server))
        assert await names(tmp_path, REDIS_URL=server.url) == {"saving-fails"}


@contextlib.asynccontextmanager
async def _crowd(server: Server, size: int) -> AsyncIterator[None]:
    clients = [Redis(host=server.host, port=server.port) for _ in range(size)]
    try:
        for client in clients:
            await client.ping()
        yield
    finally:
        for client in clients:
            await client.aclose()


async def _save_failed(server: Server) -> bool:
    info: dict[str, Any] = await server.call("INFO", "persistence")
    return bool(info["rdb_last_bgsave_status"] == "err")


class Watched:
    """A primary, a replica and three sentinels of a quorum of two, all set as they should be."""

    def __init__(self, folder: Path) -> None:
        self.set = SentinelSet(folder)
        port = self.set.nodes[0].port
        watch = (
            f"sentinel monitor mymaster {HOST} {port} 2\n"
            "sentinel down-after-milliseconds mymaster 5000\n"
            f"sentinel announce-ip {HOST}\n"  # else the others look for it at 127.0.0.1
        )
        self.set.sentinel = Server(folder, "s0", sentinel=watch)
        self.more = [Server(folder, f"s{n}", sentinel=watch) for n in (1, 2)]
        self.sentinels = [self.set.sentinel, *self.more]

    async def start(self) -> None:
        """Return when every sentinel knows the others and the replica."""
        for server in self.more:
            server.start()
        await self.set.start()
        await until(self.known, 30)
        for node in self.set.nodes:
            await configure(node)

    async def known(self) -> bool:
        """Tell whether every sentinel knows the others and the replica."""
        for sentinel in self.sentinels:
            said = await sentinel.call("SENTINEL", "MASTER", "mymaster")
            fields = (
                said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
            )
            if (int(fields["num-other-sentinels"]), int(fields["num-slaves"])) != (2, 1):
                return False
            await sentinel.call("SENTINEL", "CKQUORUM", "mymaster")  # raises while it is not
        return True

    def environment(self, *sentinels: Server) -> dict[str, str]:
        """Return variables that name some sentinels, else all."""
        hosts = ",".join(f"{HOST}:{s.port}" for s in sentinels or self.sentinels)
        return {"REDIS_URL": "redis://mymaster:6379/0", "REDIS_SENTINEL_HOSTS": hosts}

    def kill(self) -> None:
        """Kill all."""
        for server in (*self.more, self.set):
            server.kill()


async def test_each_fault_of_sentinels_is_found(tmp_path: Path) -> None:
    """Quorum, number, agreement, speed, and the primary's replica."""
    watched = Watched(tmp_path)
    try:
        await watched.start()
        first, second, third = watched.sentinels
        all_of_them = watched.environment()
        assert await names(tmp_path, **all_of_them) == set()
        flag = {**all_of_them, "REDIS_CLUSTER": "true"}
        assert await names(tmp_path, **flag) == {"cluster-flag-idle"}
        found = await names(tmp_path, **watched.environment(first, second))
        assert found == {"few-sentinels-named"}
        for change, expected in (
            (("quorum", "1"), "quorum-of-one"),
            (("quorum", "5"), "quorum-out-of-reach"),
            (("down-after-milliseconds", "30000"), "failover-slow"),
        ):
            await first.call("SENTINEL", "SET", "mymaster", *change)
            assert await names(tmp_path, **all_of_them) == {expected}
            usual = "2" if change[0] == "quorum" else "5000"
            await first.call("SENTINEL", "SET", "mymaster", change[0], usual)
        await _replica_faults(tmp_path, watched)
        third.kill()
        assert await names(tmp_path, **all_of_them) == {"sentinel-silent"}
        await second.call("SENTINEL", "RESET", "mymaster")
        found = await names(tmp_path, **watched.environment(second, first, third))
        assert {"sentinel-silent", "few-sentinels"} <= found
    finally:
        watched.kill()


async def _replica_faults(folder: Path, watched: Watched) -> None:
    primary, replica = watched.set.nodes
    environ = watched.environment()
    await primary.call("CONFIG", "SET", "min-replicas-to-write", "0")
    assert await names(folder, **environ) == {"writes-may-be-lost"}
    await primary.call("CONFIG", "SET", "min-replicas-to-write", "1")
    replica.kill()
    await until(lambda: _alone(primary))
    assert "no-replica" in await names(folder, **environ)
    replica.start()
    await until(lambda: _in_sync(primary), 30)
    third = watched.sentinels[2]
    await third.call("SENTINEL", "REMOVE", "mymaster")
    await third.call("SENTINEL", "MONITOR", "mymaster", HOST, str(replica.port), "2")
    assert "sentinels-disagree" in await names(folder, **environ)


async def _alone(primary: Server) -> bool:
    return bool((await primary.call("INFO", "replication"))["connected_slaves"] == 0)


async def _in_sync(primary: Server) -> bool:
    return bool((await primary.call("INFO", "replication"))["connected_slaves"] == 1)


async def test_a_database_without_room_for_all_pools(tmp_path: Path) -> None:
    """Processes times pool against the server's limit; and replicas whose files are as good."""
    async with postgres(tmp_path / "run") as databases, serving(tmp_path) as server:
        await configure(server, **{"min-replicas-to-write": "0"})
        url = await databases.new()
        variables = {
            "WEBUI_SECRET_KEY": SECRET,
            "REDIS_URL": server.url,
            "REDIS_KEY_PREFIX": "chat",
            "DATABASE_URL": url,
            "CORS_ALLOW_ORIGIN": "https://chat.example",
            "ENABLE_STAR_SESSIONS_MIDDLEWARE": "true",
        }
        files = [tmp_path / f"{n}.env" for n in (0, 1)]
        for n, path in enumerate(files):
            told = {**variables, "INSTANCE_ID": str(n)}
            path.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
        assert await examine_all(Asked(env=tuple(files))) == []
        [finding] = await examine_all(Asked(env=tuple(files), replicas=30))
        assert finding.name == "database-pool-exceeds"
        assert "120 connections, and the server admits 97" in finding.what
        await databases.kill()
        found = await examine_all(Asked(env=(files[0],)))
        assert [each.name for each in found] == ["database-unreachable"]


async def test_wrong_variables_are_told_as_findings(tmp_path: Path) -> None:
    """What the runtime refuses at its start, and a Redis that is not there."""
    path = tmp_path / "a.env"
    lines = f"WEBUI_SECRET_KEY={SECRET}\nREDIS_URL=redis://{HOST}:1/0\nREDIS_KEY_PREFIX=x\n"
    common = lines + "CORS_ALLOW_ORIGIN=https://a.example\n"
    path.write_text(common + "REDIS_SOCKET_CONNECT_TIMEOUT=5000\n")
    [finding] = await examine_all(Asked(env=(path,)))
    assert finding.name == "setting-refused"
    assert "divide it by 1000" in finding.evidence
    path.write_text(common + "DATABASE_URL=sqlite:///nowhere.db\n")
    found = {each.name: each.severity for each in await examine_all(Asked(env=(path,)))}
    assert found == {"redis-unreachable": "error", "database-absent": "note"}


@pytest.mark.parametrize("flag", [["--admin", "a@b"], ["--env", "none"], ["--url", "x"]])
def test_mistakes_of_the_user_end_with_3(flag: list[str]) -> None:
    """Nothing is asked of anybody."""
    assert invoke(["doctor", *flag]) == 3
