"""Stops and tasks when workers die or sleep while Redis is away."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from harness.waiting import wait_for
from tests.integration.app_deployment import Deployment, User, deployment
from tests.integration.resuming_client import ResumingClient

DEAD_WITHIN_S = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield three workers and a Redis for all tests of this file."""
    async with deployment(workers=3) as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_stop_outlives_redis_and_the_worker_that_took_it(parts: Deployment) -> None:
    """Redis is away, the acker is killed right after its answer: the stop happens all the same."""
    user = await parts.user()
    chat, _ = await user.chat("outlived", 0)

    async def stop_and_die() -> None:
        status, answer = await user.call("POST", f"/api/tasks/chat/{chat}/stop", 1)
        assert (status, answer["state"]) == (200, "requested")
        await parts.workers[1].stop(kill=True)
        await wait_for(lambda: "outlived" in parts.provider.closed, 3, "stream closed")

    await parts.restart_redis_empty(stop_and_die)
    message = await ResumingClient(user).fetch(chat, 2)
    assert message["state"] == "cancelled"
    await parts.workers[1].start()
    await parts.ready()


async def test_worker_that_slept_ends_the_tasks_that_were_taken_from_it(parts: Deployment) -> None:
    """A worker stopped for too long is taken for dead; awake again, it ends what it ran."""
    user = await parts.user()
    await user.connect(0)
    chat, task = await user.chat("asleep", 2)
    parts.workers[2].signal(signal.SIGSTOP)
    await wait_for(lambda: "chat:message:error" in user.kinds(), DEAD_WITHIN_S, "told")
    message = await ResumingClient(user).fetch(chat, 1)
    assert message["state"] == "interrupted"
    assert "asleep" in parts.provider.open
    parts.workers[2].signal(signal.SIGCONT)
    await wait_for(lambda: "asleep" in parts.provider.closed, 5, "stream closed")
    assert (await ResumingClient(user).fetch(chat, 1))["state"] == "interrupted"
    assert (await user.call("POST", f"/api/tasks/stop/{task}", 2))[1]["state"] == "finished"
    await wait_for(lambda: nobody_lists(user, chat), 3, "unlisted")
    await parts.ready()
    await user.leave()


async def nobody_lists(user: User, chat: str) -> bool:
    """Tell whether no worker lists a task of the chat."""
    answers = [await user.call("GET", f"/api/tasks/chat/{chat}", w) for w in range(3)]
    return [body for _, body in answers] == [{"task_ids": []}] * 3


async def test_chat_is_active_until_its_last_answer_ends(parts: Deployment) -> None:
    """Two answers of one chat on two workers: the first end leaves it active, the second not."""
    user = await parts.user()
    await user.connect(2)
    chat, first = await user.chat("first", 0)
    second = await second_answer(user, chat, "second", 1)
    await user.call("POST", f"/api/tasks/stop/{first}", 1)
    await wait_for(lambda: user.kinds().count("chat:tasks:cancel") == 1, 3, "first told")
    await wait_for(lambda: ends_stored(user, chat, 1), 3, "first stored")
    await user.call("POST", f"/api/tasks/stop/{second}", 0)
    await wait_for(lambda: active_flags(user)[-1:] == [False], 3, "idle")
    assert active_flags(user) == [True, True, False]
    await user.leave()


async def second_answer(user: User, chat: str, stream: str, worker: int) -> str:
    """Start another answer in a chat; return its task."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"{stream} 400"}],
        "chat_id": chat,
    }
    status, answer = await user.call("POST", "/api/chat/completions", worker, body)
    assert status == 200, answer
    return str(answer["task_ids"][0])


async def ends_stored(user: User, chat: str, count: int) -> bool:
    """Tell whether so many answers of the chat have ended in the database."""
    _, body = await user.call("GET", f"/api/v1/chats/{chat}", 0)
    messages: dict[str, Any] = body["chat"]["history"]["messages"]
    return sum(message["done"] for message in messages.values()) == count


def active_flags(user: User) -> list[bool]:
    """Return what the user was told about the chat's activity, in order."""
    inner = [event["data"] for event in user.events]
    return [data["data"]["active"] for data in inner if data["type"] == "chat:active"]
