"""The configuration on several workers: through routes, outages, and every topology."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, REDIS, Deployment, User, deployment
from tests.live import command, live

MODELS = "/api/v1/configs/models"
WITHIN_S = 10.0  # the promise is one second; the machine of a test may be starved


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield three workers for all tests of this file."""
    async with deployment(workers=3) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(parts: Deployment) -> User:
    """Return the admin."""
    return await parts.user()


@pytest_asyncio.fixture(loop_scope="module")
async def redis() -> AsyncIterator[Redis]:
    """Yield a client of the deployment's Redis."""
    async with Redis(host=REDIS, decode_responses=True) as client:
        yield client


module_loop = pytest.mark.asyncio(loop_scope="module")


async def shown(admin: User, path: str, field: str) -> list[Any]:
    """Return what every worker shows in a field."""
    workers = range(len(admin.deployment.urls))
    answers = await asyncio.gather(*(admin.call("GET", path, worker) for worker in workers))
    return [answer[field] for _, answer in answers]


async def all_show(admin: User, path: str, field: str, value: Any) -> None:
    """Wait until every worker shows the value."""

    async def same() -> bool:
        found = await shown(admin, path, field)
        assert found == [value] * len(found), found
        return True

    await wait_for(same, WITHIN_S, f"{field} everywhere")


@module_loop
async def test_a_change_reaches_every_worker_and_redis(
    parts: Deployment, admin: User, redis: Redis
) -> None:
    """A form's field is read back on all workers; Redis has the copy, and no API key."""
    status, answer = await admin.call("POST", MODELS, 0, {"DEFAULT_MODELS": "m1"})
    assert (status, answer["DEFAULT_MODELS"]) == (200, "m1")
    await all_show(admin, MODELS, "DEFAULT_MODELS", "m1")
    await admin.call("POST", "/openai/config/update", 1, {"OPENAI_API_KEYS": ["sk-hidden"]})
    await all_show(admin, "/openai/config", "OPENAI_API_KEYS", ["sk-hidden"])

    async def copied() -> bool:
        copy = await redis.get("open-webui:config:ui.default_models")
        return bool(orjson.loads(copy)["value"] == "m1")

    await wait_for(copied, 10, "copied")
    keys = [key async for key in redis.scan_iter("open-webui:config:*")]
    assert "sk-hidden" not in str(keys) + str(await redis.mget(keys))
    assert "open-webui:config:openai.api_keys" not in keys


@module_loop
async def test_a_change_during_an_outage_is_as_quick(
    parts: Deployment, admin: User, redis: Redis
) -> None:
    """Without Redis every worker has it within the second; the empty Redis gets all copies."""

    async def change() -> None:
        assert (await admin.call("POST", MODELS, 1, {"DEFAULT_MODELS": "m2"}))[0] == 200
        await all_show(admin, MODELS, "DEFAULT_MODELS", "m2")

    await parts.restart_redis_empty(change)
    await parts.ready()

    async def copied() -> bool:
        copy = await redis.get("open-webui:config:ui.default_models")
        other = await redis.get("open-webui:config:auth.jwt_expiry")
        return bool(other and orjson.loads(copy)["value"] == "m2")

    await wait_for(copied, 10, "copied again")


@module_loop
async def test_a_stale_copy_never_replaces_a_newer_one(
    parts: Deployment, admin: User, redis: Redis
) -> None:
    """A copy with a later instant stays; one with an earlier instant is replaced."""
    key = "open-webui:config:direct.enable"
    later = f'{{"updated_at":{int(time.time() * 1000) + 3_600_000},"value":"later"}}'
    await redis.set(key, later)
    body = {"ENABLE_DIRECT_CONNECTIONS": True}
    await admin.call("POST", "/api/v1/configs/connections", 0, body)
    await all_show(admin, "/api/v1/configs/connections", "ENABLE_DIRECT_CONNECTIONS", True)
    await wait_for(lambda: _all_copied(admin), 10, "copied")
    assert await redis.get(key) == later
    await redis.set(key, '{"updated_at":1,"value":"earlier"}')
    body = {"ENABLE_DIRECT_CONNECTIONS": False}
    await admin.call("POST", "/api/v1/configs/connections", 0, body)

    async def replaced() -> bool:
        return '"value":false' in await redis.get(key)

    await wait_for(replaced, 10, "replaced")


async def _all_copied(admin: User) -> bool:
    return [found["uncopied"] for found in await shown(admin, "/ready", "config")] == [0, 0, 0]


@module_loop
async def test_concurrent_changes_end_the_same_everywhere(parts: Deployment, admin: User) -> None:
    """Thirty changes on three workers at once: one of them wins, on every worker the same."""
    changes = (
        admin.call("POST", MODELS, n % 3, {"DEFAULT_MODELS": f"c{n}", "MODEL_ORDER_LIST": [str(n)]})
        for n in range(30)
    )
    assert {status for status, _ in await asyncio.gather(*changes)} == {200}

    async def agreed() -> bool:
        names = set(await shown(admin, MODELS, "DEFAULT_MODELS"))
        orders = await shown(admin, MODELS, "MODEL_ORDER_LIST")
        return len(names) == 1 and all([f"c{order[0]}"] == [*names] for order in orders)

    await wait_for(agreed, WITHIN_S, "agreed")


@module_loop
async def test_lifetime_of_tokens_follows_the_configuration(parts: Deployment, admin: User) -> None:
    """A new lifetime holds for sign-ins on every worker; a wrong one is refused and named."""
    path = "/api/v1/auths/admin/config"
    status, answer = await admin.call("POST", path, 0, {"JWT_EXPIRES_IN": "0s"})
    assert status == 422
    assert "auth.jwt_expiry" in answer["detail"]
    assert (await admin.call("POST", path, 0, {"JWT_EXPIRES_IN": "2h"}))[0] == 200
    await all_show(admin, path, "JWT_EXPIRES_IN", "2h")
    body = {"email": admin.email, "password": PASSWORD}
    for worker in range(3):
        _, answer = await admin.call("POST", "/api/v1/auths/signin", worker, body)
        assert abs(answer["expires_at"] - time.time() - 7200) < 60


@module_loop
async def test_import_takes_all_or_nothing_and_export_gives_it_back(
    parts: Deployment, admin: User
) -> None:
    """An import with one wrong key changes nothing; what export gives, import takes."""
    before = (await admin.call("GET", "/api/v1/configs/export"))[1]
    body: dict[str, Any] = {"config": {"ui": {"default_models": "x"}, "no.such": 1}}
    status, answer = await admin.call("POST", "/api/v1/configs/import", 0, body)
    assert (status, "no.such" in answer["detail"]) == (422, True)
    assert (await admin.call("GET", "/api/v1/configs/export"))[1] == before
    assert await admin.call("POST", "/api/v1/configs/import", 0, {"config": before}) == (
        200,
        before,
    )


@module_loop
async def test_only_admins_see_and_change(parts: Deployment, admin: User) -> None:
    """An ordinary user gets 403, nobody 401, on every route of the configuration."""
    user, nobody = await parts.user(), User(parts, "", "")
    for path in (MODELS, "/api/v1/configs/export", "/openai/config", "/api/models/base"):
        assert (await user.call("GET", path))[0] == 403
        assert (await nobody.call("GET", path))[0] == 401
    assert (await user.call("POST", MODELS, 0, {"DEFAULT_MODELS": "mine"}))[0] == 403


class Setting:
    """The default models, as an admin of a deployment changes and sees them."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str]) -> None:
        self._http, self._urls = http, urls
        self._headers: dict[str, str] = {}

    async def sign_up(self) -> None:
        """Make the first account, who is admin."""
        body = {"name": "a", "email": "a@app.example", "password": PASSWORD}
        async with self._http.post(f"{self._urls[0]}/api/v1/auths/signup", json=body) as answer:
            self._headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}

    async def change(self, value: str, worker: int) -> None:
        """Change it on one worker; return when all have it."""
        url, body = f"{self._urls[worker]}{MODELS}", {"DEFAULT_MODELS": value}
        async with self._http.post(url, json=body, headers=self._headers) as answer:
            assert answer.status == 200
        await wait_for(lambda: self._is(value), WITHIN_S, f"{value} everywhere")

    async def _is(self, value: str) -> bool:
        for url in self._urls:
            async with self._http.get(f"{url}{MODELS}", headers=self._headers) as answer:
                assert (await answer.json())["DEFAULT_MODELS"] == value
        return True


@pytest.mark.parametrize("topology", ["standalone", "sentinel", "cluster"])
async def test_every_topology_shares_configuration_and_survives_a_killed_primary(
    topology: str, tmp_path: Path
) -> None:
    """Changes are everywhere within a second, before, while, and after a primary is gone."""
    async with (
        live(topology, tmp_path, workers=2) as parts,
        aiohttp.ClientSession() as http,
    ):
        setting = Setting(http, [worker.url for worker in parts.deployment.workers])
        await setting.sign_up()
        key = "open-webui:config:ui.default_models"
        primary = parts.primary_of(key)
        await setting.change("before", 0)
        await wait_for(lambda: _copy_is(primary, key, "before"), 10, "copied")
        await parts.kill(primary)
        await setting.change("while", 1)
        if topology == "standalone":
            await parts.restart(primary, empty=True)
            heir = primary
        else:
            _, heir = await parts.switched(primary)
        await setting.change("after", 0)
        await wait_for(lambda: _copy_is(heir, key, "after"), 10, "copied to the new primary")


async def _copy_is(node: Any, key: str, value: str) -> bool:
    return bool(orjson.loads(await command(node, "GET", key))["value"] == value)
