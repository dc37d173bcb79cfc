"""Two workers and a Redis: sign-out, sessions, chats and stops across workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

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


async def statuses(user: User, path: str = "/api/v1/auths/") -> list[int]:
    """Return what both workers answer."""
    return [(await user.call("GET", path, worker))[0] for worker in (0, 1)]


async def test_first_user_is_admin_and_later_ones_are_not(parts: Deployment) -> None:
    """Only the first account of a database becomes admin."""
    first, second = await parts.user(0), await parts.user(1)
    roles = [(await u.call("GET", "/api/v1/auths/"))[1]["role"] for u in (first, second)]
    assert roles == ["admin", "user"]


async def test_sign_out_is_honoured_by_the_other_worker(parts: Deployment) -> None:
    """A token signed out on one worker is refused by all, and its sockets are closed."""
    user = await parts.user()
    socket = await user.connect(1)
    assert await statuses(user) == [200, 200]
    assert (await user.call("POST", "/api/v1/auths/signout", 0))[1] == {"status": True}
    await wait_for(lambda: _all_refuse(user), 1, "refused everywhere")
    await wait_for(lambda: not socket.connected, 3, "socket closed")
    await user.leave()


async def _all_refuse(user: User) -> bool:
    return await statuses(user) == [401, 401]


async def test_another_token_of_the_user_survives_a_sign_out(parts: Deployment) -> None:
    """Signing out ends one token, not the account's others."""
    user = await parts.user()
    _, again = await user.call(
        "POST", "/api/v1/auths/signin", 1, {"email": user.email, "password": PASSWORD}
    )
    await user.call("POST", "/api/v1/auths/signout", 0)
    user.token = again["token"]
    assert await statuses(user) == [200, 200]


async def test_session_data_is_read_back_on_the_other_worker(parts: Deployment) -> None:
    """What one worker wrote into a session, the other reads; keys are merged."""
    user = await parts.user()
    await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
    await user.call("POST", "/api/v1/session/data", 1, {"b": 2})
    assert (await user.call("GET", "/api/v1/session/data", 0))[1] == {"data": {"a": 1, "b": 2}}


async def test_concurrent_session_writes_are_all_kept(parts: Deployment) -> None:
    """Writers on both workers do not overwrite each other's keys."""
    user = await parts.user()
    await user.call("POST", "/api/v1/session/data", 0, {"start": 0})
    writes = [user.call("POST", "/api/v1/session/data", n % 2, {f"k{n}": n}) for n in range(4)]
    answers = await asyncio.gather(*writes)
    stored = (await user.call("GET", "/api/v1/session/data", 1))[1]["data"]
    kept = [n for n, (status, _) in enumerate(answers) if status == 200]
    assert kept
    assert all(stored[f"k{n}"] == n for n in kept)


async def test_session_of_somebody_else_is_not_readable(parts: Deployment) -> None:
    """A session cookie is worth nothing with another account's token."""
    owner, thief = await parts.user(), await parts.user()
    await owner.call("POST", "/api/v1/session/data", 0, {"secret": 1})
    thief.cookie = owner.cookie
    assert (await thief.call("GET", "/api/v1/session/data"))[1] == {"data": {}}


async def test_tokens_reach_a_socket_on_the_other_worker_in_order(parts: Deployment) -> None:
    """A chat run by one worker is heard on the other, whole and in order, with its end."""
    user = await parts.user()
    await user.connect(0)
    await user.chat("ordered", 1, tokens=10)
    await wait_for(lambda: "chat:completion" in user.kinds(), 5, "told the end")
    assert user.text() == "".join(f"t{n} " for n in range(10))
    await user.leave()


async def test_stop_on_the_other_worker_closes_the_stream(parts: Deployment) -> None:
    """A stop sent to a worker that does not own the task ends it, and it is no longer listed."""
    user = await parts.user()
    await user.connect(0)
    chat, task = await user.chat("stopped", 0)
    assert (await user.call("GET", f"/api/tasks/chat/{chat}", 1))[1] == {"task_ids": [task]}
    status, answer = await user.call("POST", f"/api/tasks/stop/{task}", 1)
    assert (status, answer["status"]) == (200, True)
    assert answer["state"] in ("requested", "cancelled")
    await wait_for(lambda: "stopped" in parts.provider.closed, 2, "stream closed")
    await wait_for(lambda: "chat:tasks:cancel" in user.kinds(), 2, "told the cancel")
    await wait_for(lambda: _unlisted(user, chat), 2, "unlisted")
    assert (await user.call("POST", f"/api/tasks/stop/{task}", 1))[1]["state"] == "finished"
    await user.leave()


async def _unlisted(user: User, chat: str) -> bool:
    return (await user.call("GET", f"/api/tasks/chat/{chat}", 1))[1] == {"task_ids": []}


async def test_stop_survives_the_loss_of_its_message(parts: Deployment) -> None:
    """With every subscription cut right before the stop, the intent still ends the stream."""
    user = await parts.user()
    redis = Redis(host=REDIS)
    for n in range(3):
        _, task = await user.chat(f"unheard-{n}", 0)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert (await user.call("POST", f"/api/tasks/stop/{task}", 1))[1]["status"]
        await wait_for(lambda n=n: f"unheard-{n}" in parts.provider.closed, 2, "stream closed")
    await wait_for(lambda: _no_intents(redis), 3, "intents settled")
    await redis.aclose()


async def _no_intents(redis: Redis) -> bool:
    return not await redis.hlen("open-webui:tasks:stops")


async def test_unknown_and_foreign_tasks_are_not_found(parts: Deployment) -> None:
    """Nobody learns about, or stops, a task that is not theirs."""
    owner, other = await parts.user(), await parts.user()
    chat, task = await owner.chat("foreign", 0)
    for path in (f"/api/tasks/stop/{task}", "/api/tasks/stop/none"):
        assert (await other.call("POST", path, 1))[1]["state"] == "not_found"
    assert (await other.call("POST", f"/api/tasks/chat/{chat}/stop", 1))[0] == 404
    assert "foreign" in parts.provider.open
    await owner.call("POST", f"/api/tasks/chat/{chat}/stop", 1)
    await wait_for(lambda: "foreign" in parts.provider.closed, 2, "stream closed")


async def test_stop_by_chat_sent_while_redis_is_down_is_executed_after_it(
    parts: Deployment,
) -> None:
    """A stop acknowledged during an outage that loses all data still ends the stream."""
    user = await parts.user()
    chat, task = await user.chat("outage", 0)

    async def stop() -> None:
        status, answer = await user.call("POST", f"/api/tasks/chat/{chat}/stop", 1)
        assert (status, answer["state"]) == (200, "requested")

    await parts.restart_redis_empty(stop)
    await wait_for(lambda: "outage" in parts.provider.closed, 5, "stream closed")
    assert task
    await parts.ready()


async def test_running_task_is_listed_again_after_redis_lost_its_data(parts: Deployment) -> None:
    """The owner writes the records of its running tasks anew; both workers list the task."""
    user = await parts.user()
    chat, task = await user.chat("relisted", 0)
    await parts.restart_redis_empty()
    for worker in (0, 1):
        await wait_for(lambda w=worker: _listed(user, chat, task, w), 5, "listed")
    await user.call("POST", f"/api/tasks/stop/{task}", 1)
    await wait_for(lambda: "relisted" in parts.provider.closed, 3, "stream closed")
    await parts.ready()


async def _listed(user: User, chat: str, task: str, worker: int) -> bool:
    answer = (await user.call("GET", f"/api/tasks/chat/{chat}", worker))[1]
    return answer.get("task_ids") == [task]


async def test_without_redis_what_can_work_works(parts: Deployment) -> None:
    """While Redis is down: tokens are checked, chats start, lists and sessions say 503."""
    user, leaver = await parts.user(), await parts.user()
    await user.call("POST", "/api/v1/session/data", 0, {"a": 1})

    async def look() -> None:
        assert await statuses(user) == [200, 200]
        chat, _ = await user.chat("no-redis", 0, tokens=400)
        listed, body = await user.call("GET", f"/api/tasks/chat/{chat}", 1)
        assert (listed, "detail" in body) == (503, True)
        assert (await user.call("GET", "/api/v1/session/data", 1))[0] == 503
        assert (await user.call("GET", "/ready", 0))[0] == 503
        assert (await user.call("GET", "/health", 0))[0] == 200
        assert (await leaver.call("POST", "/api/v1/auths/signout", 0))[0] == 200
        await wait_for(lambda: _all_refuse(leaver), 1, "refused everywhere without Redis")
        # its owner stops it at once, Redis or not
        assert (await user.call("POST", f"/api/tasks/chat/{chat}/stop", 0))[1]["status"]
        await wait_for(lambda: "no-redis" in parts.provider.closed, 2, "stream closed")

    await parts.restart_redis_empty(look)
    await parts.ready()
    assert await statuses(leaver) == [401, 401]
