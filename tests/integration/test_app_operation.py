"""In operation: cookies, transports, sentinels that hang, a Redis that is full or not there."""

from __future__ import annotations

import signal
from pathlib import Path

import aiohttp
import pytest
from bus_servers import HOST, SentinelSet, Server, free_port, until
from redis.asyncio import Redis
from socket_workers import running

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, REDIS, Deployment, User, deployment

POLLING = "/ws/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/ws/socket.io/?EIO=4&transport=websocket"
WORLD = {"WEBUI_SESSION_COOKIE_SAME_SITE": "strict", "WEBUI_SESSION_COOKIE_SECURE": "true"}
APART = {"WEBUI_AUTH_COOKIE_SAME_SITE": "none", "WEBUI_AUTH_COOKIE_SECURE": "true"}


async def flags(parts: Deployment, user: User, worker: int) -> list[tuple[str, bool]]:
    """Return SameSite and Secure of the token's and the session's cookie of a worker."""
    headers = {"Authorization": f"Bearer {user.token}"}
    body = {"email": user.email, "password": PASSWORD}
    sign_in, write = (
        parts.urls[worker] + path for path in ("/api/v1/auths/signin", "/api/v1/session/data")
    )
    async with (
        parts.http.post(sign_in, json=body) as signed,
        parts.http.post(write, json={"a": 1}, headers=headers) as written,
    ):
        found = (signed.cookies["token"], written.cookies["owui-session"])
    return [(cookie["samesite"], bool(cookie["secure"])) for cookie in found]


async def test_cookies_have_the_flags_of_the_settings() -> None:
    """The token's cookie has the session's flags, unless it has variables of its own."""
    async with deployment(environs=[WORLD, APART]) as parts:
        user = await parts.user()
        assert await flags(parts, user, 0) == [("strict", True), ("strict", True)]
        assert await flags(parts, user, 1) == [("none", True), ("lax", False)]


async def test_health_needs_nobody(tmp_path: Path) -> None:
    """Its body is upstream's current one; it is the same while Redis is away."""
    async with deployment(workers=1) as parts:
        user = await parts.user()
        await parts.redis.stop(kill=True)
        assert await user.call("GET", "/health") == (200, {"status": True})
        assert (await user.call("GET", "/ready"))[0] == 503


@pytest.mark.parametrize("websockets", [True, False])
async def test_transports_follow_enable_websocket_support(tmp_path: Path, websockets: bool) -> None:
    """WebSocket and nothing else, or long polling and nothing else; not the one by the other."""
    environ = {"ENABLE_WEBSOCKET_SUPPORT": str(websockets)}
    async with running(tmp_path, environ, 1) as (worker,), aiohttp.ClientSession() as http:
        url = f"http://{HOST}:{worker.port}"
        async with http.get(url + POLLING) as answer:
            polled = answer.status == 200
        try:
            async with http.ws_connect(url + WEBSOCKET) as socket:
                opened = (await socket.receive()).type is aiohttp.WSMsgType.TEXT
        except aiohttp.WSServerHandshakeError:
            opened = False
    assert (opened, polled) == (websockets, not websockets)


async def test_sentinels_that_do_not_answer_hold_nobody_up(tmp_path: Path) -> None:
    """The first sentinel of the list hangs, the second is gone: workers start, and fail over."""
    servers = SentinelSet(tmp_path)
    watch = f"sentinel monitor mymaster {HOST} {servers.nodes[0].port} 1"
    hung = Server(tmp_path, "hung", sentinel=watch)
    try:
        await servers.start()
        hung.start()
        await hung.ready()
        hung.signal(signal.SIGSTOP)
        hosts = [hung.port, free_port(), servers.sentinel.port]
        environ = {
            "REDIS_URL": "redis://mymaster",
            "REDIS_SENTINEL_HOSTS": ",".join(f"{HOST}:{port}" for port in hosts),
        }
        async with deployment(with_redis=False, environ=environ) as parts:
            user = await parts.user()
            servers.nodes[0].signal(signal.SIGSTOP)
            await until(servers.promoted)
            await parts.ready()
            await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
            assert (await user.call("GET", "/api/v1/session/data", 1))[1] == {"data": {"a": 1}}
    finally:
        hung.kill()
        servers.kill()


async def test_workers_start_and_sign_in_before_redis_is_there() -> None:
    """A worker that is started first serves what it can, and says what it waits for."""
    async with deployment(workers=1) as parts:
        user = await parts.user()
        await parts.redis.stop(kill=True)
        assert await parts.workers[0].stop() == 0
        await parts.workers[0].start()
        await wait_for(lambda: user.call("GET", "/health"), 20, "it listens")
        body = {"email": user.email, "password": PASSWORD}
        assert (await user.call("POST", "/api/v1/auths/signin", 0, body))[0] == 200
        status, answer = await user.call("GET", "/ready")
        assert (status, "Redis" in answer["detail"]) == (503, True)
        await parts.redis.start()
        await parts.ready()


async def test_a_redis_that_takes_no_more_clients_locks_nobody_out() -> None:
    """With maxclients reached people sign in, out, and chat; afterwards all is as before."""
    async with deployment() as parts:
        user = await parts.user()
        redis = Redis(host=REDIS)
        await redis.config_set("maxclients", 1)  # this connection
        for kind in ("normal", "pubsub"):
            await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await until(lambda: is_full(redis, user))
        body = {"email": user.email, "password": PASSWORD}
        for worker in (0, 1):
            assert (await user.call("POST", "/api/v1/auths/signin", worker, body))[0] == 200
            assert (await user.call("GET", "/api/v1/auths/", worker))[0] == 200
        await user.chat("full", 0, tokens=3)
        await redis.config_set("maxclients", 1000)
        await parts.ready()
        await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
        assert (await user.call("GET", "/api/v1/session/data", 1))[1] == {"data": {"a": 1}}
        await redis.aclose()


async def is_full(redis: Redis, user: User) -> bool:
    """Return whether no worker has a connection, and both say in `/ready` that this hurts."""
    answers = [await user.call("GET", "/ready", worker) for worker in (0, 1)]
    return len(await redis.client_list()) == 1 and {status for status, _ in answers} == {503}
