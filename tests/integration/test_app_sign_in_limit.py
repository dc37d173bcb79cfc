"""The sign-in limit through the routes of two workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, REDIS, Deployment, User, deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield one deployment for all tests of this file."""
    async with deployment() as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def redis() -> AsyncIterator[Redis]:
    """Yield a client of the deployment's Redis."""
    async with Redis(host=REDIS, decode_responses=True) as client:
        yield client


async def sign_in(
    user: User, worker: int, address: str, password: str = "wrong"
) -> aiohttp.ClientResponse:
    """Try to sign in as if from an address."""
    url = f"{user.deployment.urls[worker]}/api/v1/auths/signin"
    body = {"email": user.email, "password": password}
    headers = {"X-Forwarded-For": address}
    async with user.deployment.http.post(url, json=body, headers=headers) as answer:
        await answer.read()
        return answer


async def test_attacker_is_limited_on_all_workers_and_the_owner_is_not(parts: Deployment) -> None:
    """15 attempts per address over both workers; the owner signs in from elsewhere all the same."""
    user = await parts.user()
    answers = [await sign_in(user, n % 2, "192.0.2.1") for n in range(20)]
    assert [a.status for a in answers] == [400] * 15 + [429] * 5
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 240
    assert (await sign_in(user, 0, "192.0.2.2", PASSWORD)).status == 200
    assert (await sign_in(user, 1, "192.0.2.1", PASSWORD)).status == 429


async def test_upper_case_and_an_outage_open_no_second_window(parts: Deployment) -> None:
    """With Redis away the known count goes on; afterwards it is as if it had never been away."""
    user = await parts.user()
    for n in range(10):
        assert (await sign_in(user, 0, "192.0.2.3")).status == 400, n
    user.email = user.email.upper()

    async def look() -> None:
        statuses = [(await sign_in(user, 0, "192.0.2.3")).status for _ in range(8)]
        assert statuses == [400] * 5 + [429] * 3
        status = (await user.call("GET", "/ready"))[1]["rate_limits"]["signin"]
        assert status["fallback"] is True

    await parts.restart_redis_empty(look)
    await parts.ready()
    await wait_for(lambda: _merged(user), 10, "merged")
    assert (await sign_in(user, 1, "192.0.2.3")).status == 429


async def _merged(user: User) -> bool:
    status = (await user.call("GET", "/ready"))[1]["rate_limits"]["signin"]
    return bool(status["unmerged"] == 0 and not status["fallback"])


async def test_redis_holds_no_personal_data_of_a_limit(parts: Deployment, redis: Redis) -> None:
    """Neither the e-mail nor the address stands in a key or a value."""
    user = await parts.user()
    await sign_in(user, 0, "192.0.2.4")
    keys = [key async for key in redis.scan_iter("open-webui:ratelimit:*")]
    found = str([(key, await redis.hgetall(key)) for key in keys])
    assert keys
    assert user.email.partition("@")[0] not in found
    assert "192.0.2" not in found
