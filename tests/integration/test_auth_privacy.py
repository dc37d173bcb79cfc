"""What must stay at home: tokens, passwords, addresses, and the secret that signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, REDIS, SECRET, Deployment, User, deployment
from tests.integration.test_telemetry_workers import COLLECTOR, GRPC
from tests.otlp import Received, grpc_receiver

NEW = "wrong battery staple"
LOUD = {**GRPC, "GLOBAL_LOG_LEVEL": "DEBUG"}


@asynccontextmanager
async def monitored() -> AsyncIterator[list[str]]:
    """Give every command that Redis is sent meanwhile, as it shows them."""
    seen: list[str] = []
    redis = Redis(host=REDIS)

    async def listen() -> None:
        nonlocal seen
        async for command in monitor.listen():
            seen += [command["command"]]

    async with redis.monitor() as monitor:
        task = asyncio.create_task(listen())
        await wait_for(lambda: seen, 5, "Redis shows commands")
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await redis.aclose()


async def stored(folder: Path) -> bytes:
    """Return all of Redis's keys and values, as it writes them without compression."""
    redis = Redis(host=REDIS)
    await redis.config_set("rdbcompression", "no")
    await redis.save()
    await redis.aclose()
    return await asyncio.to_thread((folder / "dump.rdb").read_bytes)


async def use_everything(parts: Deployment) -> set[str]:
    """Sign up, in and out, fail to, change a password, connect, chat; return the secrets."""
    admin, user = await parts.user(), await parts.user(1)
    secrets = {SECRET, PASSWORD, NEW, admin.token, user.token, admin.email, user.email}
    wrong = {"email": user.email, "password": NEW}
    assert (await user.call("POST", "/api/v1/auths/signin", 0, wrong))[0] == 400
    await user.connect(0)
    await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
    secrets.add(user.cookie.partition(".")[2])  # the signature
    await user.chat("private", 1, tokens=3)
    await wait_for(lambda: "chat:completion" in user.kinds(), 5, "told the end")
    change = {"password": PASSWORD, "new_password": NEW}
    status, answer = await user.call("POST", "/api/v1/auths/update/password", 1, change)
    assert status == 200
    secrets |= await _second_half(parts, admin, user, answer["token"])
    return secrets


async def _second_half(parts: Deployment, admin: User, user: User, token: str) -> set[str]:
    user.token = token
    await user.connect(1)
    await user.call("POST", "/api/v1/session/data", 1, {"b": 2})
    for path in ("/api/v1/auths/", "/ready", "/api/v1/users/"):
        await admin.call("GET", path, 1)
    await admin.call("POST", f"/api/v1/users/{user.id}/sessions/revoke", 0)
    await admin.call("POST", f"/api/v1/users/{user.id}/update", 0, {"name": "Other"})
    await admin.call("POST", "/api/v1/auths/signout", 0)
    await user.call("GET", f"/api/v1/auths/?token={admin.id}", 0)
    await user.leave()
    return {token, user.cookie.partition(".")[2]}


async def test_no_secret_reaches_redis_logs_or_spans() -> None:
    """With DEBUG logs and every span exported, a whole life of an account leaves none behind."""
    with grpc_receiver(f"{COLLECTOR}:4317") as received:
        async with deployment(environ=LOUD) as parts:
            async with monitored() as sent:
                secrets = await use_everything(parts)
                await wait_for(lambda: _published(sent), 5, "the last notice was published")
            places = {"kept by Redis": await stored(parts.folder)}
            places["sent to Redis"] = "\n".join(sent).encode()
            places["logged"] = await _logs(parts)
    places["exported"] = b"".join(received.raw)
    _check_evidence(places, received)
    for place, text in places.items():
        assert [secret for secret in secrets if secret.encode() in text] == [], place


def _published(sent: list[str]) -> bool:
    """Tell whether the admin's sign-out, the last thing, was told."""
    return any(command.startswith("PUBLISH") and "jti" in command for command in sent)


async def _logs(parts: Deployment) -> bytes:
    """End the workers, which sends the rest of their spans, and return all they logged."""
    await asyncio.gather(*(worker.stop() for worker in parts.workers))
    logs = (asyncio.to_thread(worker.log.read_bytes) for worker in parts.workers)
    return b"".join(await asyncio.gather(*logs))


def _check_evidence(places: dict[str, bytes], received: Received) -> None:
    """Make sure that each place really was looked at."""
    assert b":session:" in places["kept by Redis"]
    assert b"revoked" in places["sent to Redis"]
    assert b"DEBUG" in places["logged"]
    assert {span.worker for span in received.spans} == {"w0", "w1"}
