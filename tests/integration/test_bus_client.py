"""The command client and the subscriber on real servers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from bus_servers import SentinelSet, Server, serving, topology_of, until

from runtime.redis.client import RedisClient
from runtime.redis.errors import BreakerOpen, RedisUnavailable
from runtime.redis.shared import SharedWires
from runtime.redis.subscriber import Subscriber
from runtime.redis.topology import Standalone
from runtime.settings import load_settings


@pytest.fixture
async def client(server: Server) -> AsyncIterator[RedisClient]:
    """Give a client of it."""
    topology = topology_of(server.url)
    client = RedisClient(topology, load_settings({"REDIS_MAX_CONNECTIONS": "4"}))
    yield client
    await client.close()
    await topology.close()


async def test_replies_are_those_of_redis_py(client: RedisClient) -> None:
    """Commands and pipelines convert replies as redis-py does."""
    await client.run(lambda r: r.hset("h", mapping={"a": "1"}))
    assert await client.run(lambda r: r.hgetall("h")) == {"a": "1"}
    replies = await client.pipeline([("SADD", "s", "x"), ("SMEMBERS", "s"), ("HGETALL", "h")])
    assert replies == [1, {"x"}, {"a": "1"}]


async def test_one_connection_serves_any_number_of_calls(
    client: RedisClient, server: Server
) -> None:
    """A burst shares one connection, and every call gets its own reply."""
    replies = await asyncio.gather(*(client.run(lambda r: r.incr("n")) for _ in range(500)))
    assert replies == list(range(1, 501))
    assert client.connections == 1
    assert str(await server.call("CLIENT", "LIST")).count(":commands") == 1


async def test_a_cancelled_call_leaves_the_others_alone(client: RedisClient) -> None:
    """Replies stay matched when a call in the middle is cancelled."""
    await client.run(lambda r: r.mset({f"k{n}": n for n in range(9)}))
    calls = [asyncio.ensure_future(client.run(lambda r, n=n: r.get(f"k{n}"))) for n in range(9)]
    await asyncio.sleep(0)
    calls[4].cancel()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(replies.pop(4), asyncio.CancelledError)
    assert replies == ["0", "1", "2", "3", "5", "6", "7", "8"]
    assert client.available


async def test_dead_connection_is_not_noticed_by_idempotent_calls(
    client: RedisClient, server: Server
) -> None:
    """A read after CLIENT KILL is tried again on a new connection."""
    await client.run(lambda r: r.set("k", "v"))
    await server.call("CLIENT", "KILL", "TYPE", "normal")
    assert await client.run(lambda r: r.get("k"), idempotent=True) == "v"


async def test_server_may_close_idle_connections(client: RedisClient, server: Server) -> None:
    """`timeout` of redis.conf ends connections, not calls: the next one opens another."""
    await server.call("CONFIG", "SET", "timeout", "1")
    assert await client.run(lambda r: r.incr("n")) == 1
    await until(lambda: _no_commands(server))
    assert await client.run(lambda r: r.incr("n"), idempotent=False) == 2


async def _no_commands(server: Server) -> bool:
    return ":commands" not in str(await server.call("CLIENT", "LIST"))


async def test_failure_is_fast_and_recovery_noticed(client: RedisClient, server: Server) -> None:
    """After the first failure calls fail at once, until the background probe succeeds."""
    await client.run(lambda r: r.ping())
    server.kill()
    with pytest.raises(RedisUnavailable):
        await client.run(lambda r: r.get("k"), idempotent=True)
    assert not client.available
    with pytest.raises(BreakerOpen):
        await client.run(lambda r: r.get("k"), idempotent=True)
    server.start()
    await until(lambda: client.available)
    assert await client.run(lambda r: r.get("k")) is None


async def test_hung_server_costs_one_deadline(client: RedisClient, server: Server) -> None:
    """A stopped server makes one call wait for its deadline, and no other."""
    await client.run(lambda r: r.ping())
    server.signal(signal.SIGSTOP)
    with pytest.raises(RedisUnavailable):
        await client.run(lambda r: r.get("k"), deadline=0.2)
    with pytest.raises(BreakerOpen):
        await client.run(lambda r: r.get("k"))
    server.signal(signal.SIGCONT)
    await until(lambda: client.available)


async def test_a_given_up_write_keeps_no_socket(server: Server) -> None:
    """A server takes no more bytes; what was not sent to it is dropped with the connection."""
    topology = topology_of(server.url)
    wire = await topology.open("", "big")
    server.signal(signal.SIGSTOP)
    with pytest.raises(RedisUnavailable):
        await wire.call("SET", "k", b"x" * (64 << 20), within=0.2)
    await until(lambda: not _sockets_to(server), 3)
    server.signal(signal.SIGCONT)
    await topology.close()


def _sockets_to(server: Server) -> list[object]:
    """Return this process's connections to a server."""
    mine = psutil.Process().net_connections("tcp")
    return [one for one in mine if one.raddr and one.raddr.port == server.port]


async def test_failover_is_followed(tmp_path: Path) -> None:
    """After a failover commands and the subscription go to the promoted replica."""
    sentinels = SentinelSet(tmp_path)
    heard: list[bytes] = []
    subscribed: list[float] = []
    try:
        await sentinels.start()
        topology = topology_of(sentinels.settings())
        client = RedisClient(topology, sentinels.settings())
        subscriber = Subscriber(
            topology, "ch", heard.append, lambda: subscribed.append(time.monotonic())
        )
        subscriber.start()
        await until(lambda: subscribed)
        await client.run(lambda r: r.set("k", "v"))
        sentinels.nodes[0].signal(signal.SIGSTOP)  # hangs: nobody closes a connection
        await until(lambda: topology.current("k") == ("127.91.0.1", sentinels.nodes[1].port))
        await until(lambda: len(subscribed) == 2)
        await until(lambda: client.run(lambda r: r.set("k", "w")))
        await client.run(lambda r: r.publish("ch", "hello"))
        await until(lambda: heard == [b"hello"])
        await subscriber.stop()
        await client.close()
        await topology.close()
    finally:
        sentinels.kill()


async def test_subscription_survives_a_restart_and_bad_handlers(server: Server) -> None:
    """A handler that fails costs one message; a restarted server is subscribed to again."""
    heard: list[bytes] = []

    def handle(message: bytes) -> None:
        if message == b"bad":
            raise ValueError("a bad message")
        heard.append(message)

    topology = topology_of(server.url)
    subscriber = Subscriber(topology, "ch", handle)
    subscriber.start()
    await until(lambda: subscriber.subscriptions == 1)
    await server.call("PUBLISH", "ch", "bad")
    await server.call("PUBLISH", "ch", "good")
    await until(lambda: heard == [b"good"])
    server.kill()
    server.start()
    await until(lambda: subscriber.subscriptions == 2)
    await server.call("PUBLISH", "ch", "again")
    await until(lambda: heard == [b"good", b"again"])
    await subscriber.stop()
    await topology.close()


@pytest.mark.parametrize("retries", [0, 3])
async def test_refused_commands_are_sent_again_so_often(server: Server, retries: int) -> None:
    """REDIS_SENTINEL_MAX_RETRY_COUNT bounds the tries of a command that a replica refuses."""
    settings = load_settings(
        {"REDIS_URL": server.url, "REDIS_SENTINEL_MAX_RETRY_COUNT": str(retries)}
    )
    await server.call("REPLICAOF", "127.0.0.1", "1")  # nobody there: it refuses writes
    topology = topology_of(settings)
    client = RedisClient(topology, settings)
    with pytest.raises(RedisUnavailable, match="READONLY"):
        await client.run(lambda r: r.set("k", "v"), deadline=20)
    errors = await server.call("INFO", "errorstats")
    assert errors["errorstat_READONLY"]["count"] == 1 + retries
    await client.close()
    await topology.close()


async def test_an_unused_connection_has_to_answer_first(server: Server) -> None:
    """REDIS_HEALTH_CHECK_INTERVAL: a PING before a command on a connection unused for longer."""
    settings = load_settings({"REDIS_URL": server.url, "REDIS_HEALTH_CHECK_INTERVAL": "5"})
    topology = topology_of(settings)
    client = RedisClient(topology, settings)
    await client.run(lambda r: r.set("k", "v"))
    await client.run(lambda r: r.get("k"))
    before = await pings(server)
    [wire] = client._wires._wires.values()
    wire.last_used = wire.last_reply = time.monotonic() - 6
    await client.run(lambda r: r.get("k"))
    assert await pings(server) == before + 1
    await client.close()
    await topology.close()


async def pings(server: Server) -> int:
    """Return how many PINGs the server has answered."""
    return int((await server.call("INFO", "commandstats"))["cmdstat_ping"]["calls"])


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_lost_answer_is_asked_for_again_only_if_idempotent(
    client: RedisClient, server: Server, idempotent: bool
) -> None:
    """A command whose answer is lost may have run: INCR would count twice (W-06)."""
    await client.run(lambda r: r.set("n", 0))
    server.signal(signal.SIGSTOP)  # takes the command, and answers nothing
    call = asyncio.ensure_future(client.run(lambda r: r.incr("n"), idempotent, deadline=20))
    await until(lambda: client._wires._wires and not call.done() and _in_flight(client))
    for wire in client._wires._wires.values():
        wire._wire.drop()  # the connection breaks while the command is under way
    server.signal(signal.SIGCONT)
    if idempotent:
        assert await call in (1, 2)
    else:
        with pytest.raises(RedisUnavailable):
            await call
        assert int(await server.call("GET", "n")) <= 1


def _in_flight(client: RedisClient) -> bool:
    return any(wire._calls for wire in client._wires._wires.values())


async def test_a_pause_of_the_worker_is_no_silence_of_redis(
    client: RedisClient, server: Server
) -> None:
    """Answers that came while the process stood still are read, and nothing counts as down."""
    await client.run(lambda r: r.set("k", "v"))
    await server.call("CLIENT", "PAUSE", "900")  # the answers come while nobody looks
    calls = [asyncio.ensure_future(client.run(lambda r: r.get("k"))) for _ in range(50)]
    await until(lambda: client.waiting == 50)
    asyncio.get_running_loop().call_soon(time.sleep, 2.0)  # longer than any deadline
    assert await asyncio.gather(*calls) == ["v"] * 50
    assert client.available
    assert client.breakers["primary"].opened == 0


async def test_calls_that_wait_while_the_primary_moves_share_one_connection(
    server: Server, tmp_path: Path
) -> None:
    """One dials the node that hangs, the others wait for it; then all go to the new primary.

    If each opened a connection of its own there, it would cut off those before, with their calls.
    """
    folder = tmp_path / "next"
    folder.mkdir()
    async with serving(folder) as after:
        topology = topology_of(server.url)
        assert isinstance(topology, Standalone)
        wires = SharedWires(topology, "commands", 4)
        server.signal(signal.SIGSTOP)  # takes a connection, and answers nothing
        waiting = [asyncio.ensure_future(_echoed(wires, f"{n}")) for n in range(40)]
        await until(lambda: wires._opening)
        before = await _accepted(after)
        topology._address = ("127.91.0.1", after.port)
        topology._changed()
        wires.moved()
        assert await asyncio.gather(*waiting) == [f"{n}" for n in range(40)]
        assert await _accepted(after) - before < 10
        wires.close()
        await topology.close()


async def _echoed(wires: SharedWires, word: str) -> str:
    """Return the word from the primary; tried again where it was surely not sent."""
    while True:
        try:
            return str((await wires.exchange("", [("ECHO", word)]))[0])
        except RedisUnavailable as error:
            if not error.refused:
                raise


async def _accepted(server: Server) -> int:
    return int((await server.call("INFO", "stats"))["total_connections_received"])
