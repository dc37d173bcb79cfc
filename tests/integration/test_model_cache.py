"""Model lists of several workers: asked once, shared, dropped everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import REDIS, SUBNET, Deployment, User, deployment
from tests.live import live

CACHE = {"ENABLE_BASE_MODELS_CACHE": "true", "MODELS_CACHE_TTL": "0.05"}
TWO = f"http://{SUBNET}.3:9000/v1;http://{SUBNET}.3:9000/second/v1"


@asynccontextmanager
async def serving(workers: int = 3, **env: str) -> AsyncIterator[tuple[Deployment, User]]:
    """Run workers with a cache, and an admin."""
    async with deployment(workers=workers, environ={**CACHE, **env}) as parts:
        yield parts, await parts.user()


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Redis]:
    """Yield a client of the deployment's Redis."""
    async with Redis(host=REDIS, decode_responses=True) as client:
        yield client


async def names(user: User, worker: int = 0, path: str = "/api/models") -> list[str]:
    """Return the ids that a worker lists."""
    status, answer = await user.call("GET", path, worker)
    assert status == 200, answer
    return [model["id"] for model in answer["data"]]


async def everywhere(user: User) -> list[list[str]]:
    """Return what every worker lists."""
    return await asyncio.gather(*(names(user, n) for n in range(len(user.deployment.urls))))


async def statuses(user: User) -> list[dict[str, Any]]:
    """Return every worker's counters."""
    workers = range(len(user.deployment.urls))
    return [(await user.call("GET", "/ready", worker))[1]["models"] for worker in workers]


async def test_starting_workers_ask_the_provider_once_and_share_the_list(redis: Redis) -> None:
    """Three workers warm up with one call; the list is in Redis as a JSON list, and expires."""
    async with serving() as (parts, admin):
        await wait_for(lambda: redis.exists("open-webui:models:base"), 10, "warmed")
        assert await everywhere(admin) == [["m"]] * 3
        assert len(parts.provider.listed) == 1
        assert '[{"id":"m"' in await redis.get("open-webui:models:base")
        assert 0 < await redis.ttl("open-webui:models:base") <= 300
        assert not await redis.exists("{open-webui:models:base}:lock")


async def test_simultaneous_calls_after_a_refresh_ask_once() -> None:
    """Sixty calls on three workers, while nothing is cached, make one call to the provider."""
    async with serving() as (parts, admin):
        await wait_for(lambda: parts.provider.listed, 10, "warmed")
        parts.provider.models = ["n"]
        parts.provider.may_list.clear()
        asked = len(parts.provider.listed)
        refresh = asyncio.create_task(admin.call("POST", "/api/models/refresh", 0))
        await wait_for(lambda: len(parts.provider.listed) == asked + 1, 10, "asked")
        await wait_for(lambda: _same_version(admin), 10, "all know of the refresh")
        calls = [asyncio.create_task(names(admin, n % 3)) for n in range(60)]
        parts.provider.may_list.set()
        assert await asyncio.gather(*calls) == [["n"]] * 60
        assert (await refresh)[1]["data"][0]["id"] == "n"
        assert len(parts.provider.listed) == asked + 1


async def _same_version(user: User) -> bool:
    workers = range(len(user.deployment.urls))
    found = [(await user.call("GET", "/ready", n))[1]["config"]["version"] for n in workers]
    return len(set(found)) == 1


async def test_refresh_and_new_providers_drop_every_workers_list() -> None:
    """Within a second no worker lists what was there before; likewise while Redis is away."""
    async with serving(MODELS_CACHE_TTL="600") as (parts, admin):
        assert await everywhere(admin) == [["m"]] * 3
        parts.provider.models = ["n"]
        assert await everywhere(admin) == [["m"]] * 3
        assert (await admin.call("POST", "/api/models/refresh", 1))[1]["data"][0]["id"] == "n"
        await wait_for(lambda: _list(admin, ["n"]), 10, "refreshed")

        async def without_redis() -> None:
            parts.provider.models = ["o"]
            assert await names(admin, 2, "/api/models?refresh=true") == ["o"]
            await wait_for(lambda: _list(admin, ["o"]), 10, "refreshed without Redis")

        await parts.restart_redis_empty(without_redis)
        await parts.ready()
        body = {"OPENAI_API_BASE_URLS": TWO.split(";")}
        await admin.call("POST", "/openai/config/update", 0, body)
        await wait_for(lambda: _list(admin, ["o", "secondo"]), 10, "two providers")


async def _list(user: User, wanted: list[str]) -> bool:
    found = await everywhere(user)
    assert found == [wanted] * len(found), found
    return True


async def test_a_list_of_before_is_not_used_after_an_outage(redis: Redis) -> None:
    """A refresh while Redis is away also drops the list that Redis still has when it is back."""
    async with serving(2) as (parts, admin):
        await wait_for(lambda: parts.provider.listed, 10, "warmed")
        assert await everywhere(admin) == [["m"]] * 2
        kept = await redis.keys("*models:base*")
        values = dict(zip(kept, await redis.mget(kept), strict=True))
        parts.provider.models = ["n"]

        async def refresh() -> None:
            assert (await admin.call("POST", "/api/models/refresh", 0))[0] == 200

        assert values.keys() == {"open-webui:models:base", "{open-webui:models:base}:tag"}
        await parts.restart_redis_empty(refresh)
        await redis.mset(values)
        await parts.ready()
        await wait_for(lambda: _list(admin, ["n"]), 10, "the new list")


async def test_redis_errors_are_counted_and_never_an_answer(redis: Redis) -> None:
    """With Redis away, or with nonsense in the keys, lists come from the provider."""
    async with serving(2) as (parts, admin):
        await wait_for(lambda: redis.exists("open-webui:models:base"), 10, "warmed")
        await redis.delete("open-webui:models:base")
        await redis.hset("open-webui:models:base", "a", "b")
        assert await everywhere(admin) == [["m"]] * 2
        await redis.set("open-webui:models:base", "no json")
        await asyncio.gather(*(names(admin, n % 2) for n in range(10)))

        async def look() -> None:
            await wait_for(counted, 10, "errors counted")

        async def counted() -> bool:
            assert await everywhere(admin) == [["m"]] * 2
            return all(found["redis_errors"] for found in await statuses(admin))

        await parts.restart_redis_empty(look)


async def test_failing_providers() -> None:
    """One failing provider costs its own models, and that list is not shared; all: 502."""
    async with serving(2, OPENAI_API_BASE_URL=TWO) as (parts, admin):
        assert await everywhere(admin) == [["m", "secondm"]] * 2
        parts.provider.failing = {"second"}
        await admin.call("POST", "/api/models/refresh", 0)
        await wait_for(lambda: _list(admin, ["m"]), 10, "without the second")
        parts.provider.failing = set()
        await wait_for(lambda: _list(admin, ["m", "secondm"]), 10, "both again")
        parts.provider.failing = {"", "second"}
        assert await everywhere(admin) == [["m", "secondm"]] * 2
        status, answer = await admin.call("POST", "/api/models/refresh", 0)
        assert (status, "answered 500" in answer["detail"]) == (502, True)


async def test_a_chat_goes_to_the_provider_that_lists_its_model() -> None:
    """Also under a prefix, which the provider itself does not know; unlisted ones to the first."""
    async with serving(2, OPENAI_API_BASE_URL=TWO) as (parts, admin):
        body = {"OPENAI_API_CONFIGS": {"1": {"prefix_id": "b"}}}
        await admin.call("POST", "/openai/config/update", 0, body)
        await wait_for(lambda: _list(admin, ["m", "b.secondm"]), 10, "listed with a prefix")
        for n, model in enumerate(("m", "b.secondm", "unlisted")):
            await admin.chat(f"s{n}", 1, tokens=1, model=model)
        assert parts.provider.asked == {
            "s0": ("", "m"),
            "s1": ("second", "secondm"),
            "s2": ("", "unlisted"),
        }


async def test_the_registry_of_models_holds_what_is_listed(redis: Redis) -> None:
    """The hash is the list after every load; one that could not be written is made up for."""
    async with serving(2) as (parts, admin):
        await wait_for(lambda: redis.exists("open-webui:models"), 10, "registered")
        assert set(await redis.hkeys("open-webui:models")) == {"m"}

        async def refresh() -> None:
            parts.provider.models = ["n"]
            assert (await admin.call("POST", "/api/models/refresh", 0))[0] == 200

        await parts.restart_redis_empty(refresh)
        await parts.ready()
        assert await names(admin, 1) == ["n"]

        async def registered() -> bool:
            return set(await redis.hkeys("open-webui:models")) == {"n"}

        await wait_for(registered, 10, "made up for")


async def test_users_with_lists_of_their_own_never_see_each_others(redis: Redis) -> None:
    """Where providers are told who asks, no list is shared, in memory or in Redis."""
    async with serving(2, ENABLE_FORWARD_USER_INFO_HEADERS="true") as (parts, admin):
        other = await parts.user()
        for _ in range(2):
            for user in (admin, other):
                assert await everywhere(user) == [[f"m{user.id}"]] * 2
        assert {seen["X-OpenWebUI-User-Id"] for seen in parts.provider.listed} == {
            admin.id,
            other.id,
        }
        assert await redis.keys("*models:base*") == []


async def test_one_worker_without_redis_caches_too() -> None:
    """A single worker remembers, refreshes and orders lists without Redis."""
    async with deployment(with_redis=False, workers=1, environ=CACHE) as parts:
        admin = await parts.user()
        parts.provider.models = ["a", "b"]
        await admin.call("POST", "/api/v1/configs/models", 0, {"MODEL_ORDER_LIST": ["b"]})
        assert await names(admin, 0, "/api/models?refresh=true") == ["b", "a"]
        assert await names(admin, 0, "/api/models/base") == ["a", "b"]
        calls = await asyncio.gather(*(names(admin) for _ in range(50)))
        assert calls == [["b", "a"]] * 50
        (status,) = await statuses(admin)
        assert status["misses"] < 10
        assert 0 < status["hit_rate"] <= 1


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_every_topology_shares_the_list(topology: str, tmp_path: Any) -> None:
    """One worker's list is the other's: the script and the lock work on it."""
    async with live(topology, tmp_path, workers=2) as parts, aiohttp.ClientSession() as http:
        urls = [worker.url for worker in parts.deployment.workers]
        body = {"name": "a", "email": "a@app.example", "password": "correct horse"}
        async with http.post(f"{urls[0]}/api/v1/auths/signup", json=body) as answer:
            headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
        on = {"ENABLE_BASE_MODELS_CACHE": True}
        await http.post(f"{urls[0]}/api/v1/configs/connections", json=on, headers=headers)

        async def shared() -> bool:
            counts = []
            for url in urls:
                async with http.get(f"{url}/api/models", headers=headers) as answer:
                    assert (await answer.json())["data"]
                async with http.get(f"{url}/ready") as answer:
                    counts.append((await answer.json())["models"])
            assert all(count["redis_errors"] == 0 for count in counts)
            return any(count["shared_hits"] for count in counts)

        await wait_for(shared, 10, "one list for both")
