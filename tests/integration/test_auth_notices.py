"""Notices of revocations on a real server: each change is told, and none is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
from bus_servers import Server, topology_of, until

from runtime.accounts.revocations import RevocationNotices
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.settings import load_settings


async def _nobody(_: str) -> None:
    """Verify no socket."""


@pytest.fixture
async def notices(server: Server) -> AsyncIterator[RevocationNotices]:
    """Give a worker's notices, which nobody sends but the test."""
    topology = topology_of(server.url)
    client = RedisClient(topology, load_settings({"REDIS_URL": server.url}))
    yield RevocationNotices(client, Keys("test"), _nobody, lifetime_s=60)
    await client.close()
    await topology.close()


async def test_a_change_while_the_last_one_is_told_is_told_too(
    notices: RevocationNotices, server: Server
) -> None:
    """Others may have asked the database between the two: they have to ask again."""
    client = notices._redis
    assert client
    await client.run(lambda r: r.ping())
    server.signal(signal.SIGSTOP)
    notices.user("ann")
    telling = asyncio.create_task(notices._tell())
    await until(lambda: client.waiting)
    notices.user("ann")  # mostly in the same second, when it is an equal notice
    server.signal(signal.SIGCONT)
    with contextlib.suppress(RedisUnavailable):  # a slow machine: then both are to be told
        await telling
    assert notices.status["waiting"] >= 1
    await until(lambda: _told(notices))


async def _told(notices: RevocationNotices) -> bool:
    await notices._tell()
    return notices.status["waiting"] == 0


async def test_what_redis_did_not_take_is_kept(notices: RevocationNotices, server: Server) -> None:
    """Until it is back."""
    server.kill()
    notices.token("jti", None)
    with pytest.raises(RedisUnavailable):
        await notices._tell()
    assert notices.status["waiting"] == 1
    server.start()
    await server.ready()
    await until(lambda: _told(notices))
    assert await server.call("EXISTS", Keys("test").token_revoked("jti"))
