"""TLS, ACL users and IPv6 on real servers in all three modes, failovers included."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from bus_cluster import ClusterSet
from bus_servers import HOST, SentinelSet, Server, serving, topology_of, until
from secure_parts import APP, APP_PASSWORD, PREFIX, WATCHER, Security

from runtime.realtime.pubsub import PubSubManager
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisDenied, RedisUnavailable
from runtime.redis.eventlog import EventLog
from runtime.redis.keys import Keys
from runtime.redis.subscriber import Subscriber
from runtime.settings import Settings, load_settings

KEYS = Keys(PREFIX)
CHANNEL = KEYS.task_commands


def has_ipv6() -> bool:
    """Return whether ::1 can be listened on here."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Worker:
    """What one worker has: commands, a subscription, one end of the event log."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.topology = topology_of(settings.model_copy(update={"instance_id": name}))
        self.client = RedisClient(self.topology, settings)
        self.heard: list[bytes] = []
        self.events: list[bytes] = []
        self.subscriber = Subscriber(self.topology, CHANNEL, self.heard.append)
        self.log = EventLog(
            self.topology, KEYS, name, lambda _, payload: self.events.append(payload)
        )

    async def start(self) -> None:
        """Return when everything is connected."""
        self.subscriber.start()
        self.log.start()
        await until(lambda: self.subscriber.subscribed and self.log.caught_up)

    async def stop(self) -> None:
        """Close everything."""
        await self.subscriber.stop()
        await self.log.stop()
        await self.client.close()
        await self.topology.close()


@asynccontextmanager
async def two_workers(settings: Settings) -> AsyncIterator[tuple[Worker, Worker]]:
    """Give two workers that are connected."""
    workers = Worker(settings, "a"), Worker(settings, "b")
    try:
        for worker in workers:
            await worker.start()
        yield workers
    finally:
        for worker in workers:
            await worker.stop()


async def works(a: Worker, b: Worker, word: bytes) -> None:
    """Assert that commands, the subscription and the event log all serve."""
    key = KEYS.session(word.decode())
    await until(lambda: a.client.run(lambda r: r.set(key, word)))
    assert await b.client.run(lambda r: r.get(key), idempotent=True) == word.decode()
    a.log.publish("", word)
    await until(lambda: word in b.events)
    await a.client.run(lambda r: r.publish(CHANNEL, word))
    await until(lambda: word in b.heard)


@contextmanager
def killed(servers: SentinelSet | ClusterSet) -> Iterator[None]:
    """Kill all servers at the end."""
    try:
        yield
    finally:
        servers.kill()


@pytest.mark.parametrize("host", [HOST, "::1"])
@pytest.mark.parametrize("mutual", [False, True])
async def test_standalone(tmp_path: Path, host: str, mutual: bool) -> None:
    """TLS (also with our own certificate), a least-privilege user, over IPv4 and IPv6."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    security = Security(tmp_path / "tls", mutual=mutual)
    async with (
        serving(tmp_path, host=host, security=security) as server,
        two_workers(load_settings({"REDIS_URL": server.url})) as (a, b),
    ):
        await works(a, b, b"one")
        names = await names_of(server)
        for name in ("commands", "events-reader", "events-writer", "subscriber"):
            assert {f"a:{name}", f"b:{name}"} <= names


async def names_of(server: Server) -> set[str]:
    """Return the names of the server's connections."""
    return {each["name"] for each in await server.call("CLIENT LIST")}


async def test_sentinel_failover(tmp_path: Path) -> None:
    """TLS and other credentials towards the sentinels; all recovers after the primary died."""
    security = Security(tmp_path / "tls", "sentinel")
    servers = SentinelSet(tmp_path, security)
    with killed(servers):
        await servers.start()
        async with two_workers(servers.settings()) as (a, b):
            await works(a, b, b"before")
            assert "a:sentinel" in await names_of(servers.sentinel)
            servers.nodes[0].kill()
            await until(lambda: servers.promoted(), 15)
            await until(lambda: b.subscriber.subscriptions == 2 and b.log.caught_up, 15)
            await works(a, b, b"after")


async def test_cluster_failover(tmp_path: Path) -> None:
    """TLS between the nodes and towards them; all recovers after the events' primary died."""
    servers = ClusterSet(tmp_path, Security(tmp_path / "tls", "cluster"), KEYS.events)
    with killed(servers):
        await servers.start()
        async with two_workers(servers.settings()) as (a, b):
            await works(a, b, b"before")
            primary = a.topology.current(KEYS.events)
            servers.primary_of(KEYS.events).kill()
            await until(lambda: a.topology.current(KEYS.events) != primary, 15)
            await until(lambda: a.log.caught_up and b.log.caught_up, 15)
            await until(lambda: b.subscriber.subscribed, 15)
            await works(a, b, b"after")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda url: url.replace("?ssl_ca_certs=", "?ssl_ca_path="), RedisUnavailable, "authority"),
        (lambda url: url.replace("app:", "other:"), RedisDenied, "user name or password is wrong"),
        (lambda url: url.split("?")[0].replace("rediss", "redis"), RedisUnavailable, ""),
    ],
)
async def test_what_cannot_connect_says_why(
    tmp_path: Path, change: Callable[[str], str], kind: type[RedisUnavailable], said: str
) -> None:
    """An unknown authority, wrong credentials, plain text on a TLS port."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        topology = topology_of(change(server.url))
        with pytest.raises(kind) as caught:
            await topology.open("k", "test")
        assert said in caught.value.reason
        assert APP_PASSWORD not in caught.value.reason
        await topology.close()


async def test_wrong_sentinel_password_is_told(tmp_path: Path) -> None:
    """`No sentinel tells the primary` alone would leave the operator in the dark."""
    servers = SentinelSet(tmp_path, Security(tmp_path / "tls", "sentinel"))
    with killed(servers):
        await servers.start()
        environ = {**servers.environment(), "REDIS_SENTINEL_PASSWORD": "wrong"}
        topology = topology_of(load_settings(environ))
        with pytest.raises(RedisUnavailable, match="WRONGPASS"):
            await topology.locate("k")
        await topology.close()


async def test_plain_server_asked_for_tls(tmp_path: Path) -> None:
    """`rediss://` towards a plain port says that the server speaks no TLS."""
    async with serving(tmp_path) as server:
        topology = topology_of(server.url.replace("redis://", "rediss://"))
        with pytest.raises(RedisUnavailable) as caught:
            await topology.open("k", "test")
        assert "does the port speak TLS?" in caught.value.reason
        await topology.close()


async def test_no_connection_is_left(tmp_path: Path) -> None:
    """Everything that two workers opened is closed at their end, and nothing else is."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        before = await names_of(server)
        async with two_workers(load_settings({"REDIS_URL": server.url})) as (a, b):
            await works(a, b, b"word")
            assert len(await names_of(server)) > len(before)
        await until(lambda: same(server, before))


async def same(server: Server, names: set[str]) -> bool:
    """Return whether the server has connections of these names only."""
    return await names_of(server) == names


async def test_the_stock_manager_speaks_tls_to_sentinels(tmp_path: Path) -> None:
    """WEBSOCKET_MANAGER=redis-pubsub takes over credentials, TLS and the connection's name."""
    servers = SentinelSet(tmp_path, Security(tmp_path / "tls", "sentinel"))
    with killed(servers):
        await servers.start()
        await servers.sentinel.call("ACL", "SETUSER", WATCHER, "+sentinel|masters", "+hello")
        for node in servers.nodes:
            await node.call("ACL", "SETUSER", APP, "+hello", "+unsubscribe")
        manager = PubSubManager(servers.settings().model_copy(update={"instance_id": "p"}), KEYS)
        manager._redis_connect()
        assert await manager.redis.publish(manager.channel, "x") == 0
        assert "p:pubsub-manager" in await names_of(servers.nodes[0])
        await manager.stop()
        await until(lambda: gone(servers.nodes[0], "p:pubsub-manager"))


async def gone(server: Server, name: str) -> bool:
    """Return whether the server has no connection of this name."""
    return name not in await names_of(server)
