"""SIGTERM: answers finish or are stopped with their text kept, records go, the exit code is 0."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.integration.app_deployment import REDIS, Deployment, Program, User, deployment
from tests.integration.resuming_client import ResumingClient

WHOLE = "".join(f"t{n} " for n in range(40))


async def task_keys() -> list[Any]:
    """Return the keys of tasks that are left in Redis."""
    async with Redis(host=REDIS) as redis:
        return list(await redis.keys("open-webui:tasks*"))


def ending(worker: Program) -> asyncio.Task[int]:
    """Tell a worker to end; the task gives its exit code."""
    return asyncio.create_task(worker.stop())


async def shuts_down(parts: Deployment) -> bool:
    """Tell whether worker 0 says that it is ending."""
    async with parts.http.get(f"{parts.urls[0]}/ready") as answer:
        return answer.status == 503 and "Shutting down" in await answer.text()


async def started(user: User, stream: str, tokens: int) -> str:
    """Start an answer on worker 0; return its chat once text has come."""
    chat, _ = await user.chat(stream, 0, tokens)
    await wait_for(lambda: "t3 " in user.text(), 3, "some text")
    return chat


async def test_answer_may_finish_before_its_worker_ends() -> None:
    """Within the deadline the answer is completed; meanwhile the worker takes no new chat."""
    async with deployment(environ={"DRAIN_TIMEOUT": "10"}) as parts:
        user = await parts.user(1)
        await user.connect(1)
        chat = await started(user, "finishes", 40)
        code = ending(parts.workers[0])
        await wait_for(lambda: shuts_down(parts), 2, "not ready")
        body = {"model": "m", "messages": [{"role": "user", "content": "late 5"}]}
        assert (await user.call("POST", "/api/chat/completions", 0, body))[0] == 503
        assert await code == 0
        assert "chat:completion" in user.kinds()
        message = await ResumingClient(user).fetch(chat, 1)
        assert (message["state"], message["content"], user.text()) == ("done", WHOLE, WHOLE)
        assert await task_keys() == []
        ready = await parts.http.get(f"{parts.urls[1]}/ready")
        assert (await ready.json())["task_owners"]["buried"] == 0
        await user.leave()


async def test_answer_that_takes_too_long_is_stopped_with_its_text_kept() -> None:
    """After the deadline the user is told the stop, also on a socket of the worker that ends."""
    async with deployment(environ={"DRAIN_TIMEOUT": "0.3"}) as parts:
        user = await parts.user(1)
        await user.connect(0)
        chat = await started(user, "stopped", 4000)
        assert await ending(parts.workers[0]) == 0
        await wait_for(lambda: user.kinds()[-2:] == ["chat:tasks:cancel", "chat:active"], 3, "told")
        message = await ResumingClient(user).fetch(chat, 1)
        assert (message["state"], message["content"]) == ("cancelled", user.text())
        assert await task_keys() == []
        await user.leave()


async def test_second_signal_ends_a_worker_at_once() -> None:
    """Nobody waits a minute for an answer when asked twice."""
    async with deployment(environ={"DRAIN_TIMEOUT": "60"}) as parts:
        user = await parts.user(1)
        await user.chat("long", 0, 4000)
        code = ending(parts.workers[0])
        await wait_for(lambda: shuts_down(parts), 2, "draining")
        parts.workers[0].signal(signal.SIGTERM)
        assert await code == 128 + signal.SIGTERM


@pytest.mark.parametrize(("signals", "expected"), [(1, 0), (2, 1)])
async def test_all_workers_of_a_shared_port_drain(signals: int, expected: int) -> None:
    """`--workers 2` saves the text of running answers and ends with 0; with 1 when told twice."""
    timeout = "0.3" if signals == 1 else "60"
    async with deployment(workers=1, environ={"DRAIN_TIMEOUT": timeout}) as parts:
        worker = parts.workers[0]
        await worker.stop()
        worker.add_arguments("--workers", "2")
        await worker.start()
        await parts.ready()
        user = await parts.user()
        chat, _ = await user.chat("shared", 0, 4000)
        code = ending(worker)
        if signals == 2:
            await wait_for(lambda: shuts_down(parts), 2, "draining")
            worker.signal(signal.SIGINT)
        assert await code == expected
        await worker.start()
        await parts.ready()
        message = await ResumingClient(user).fetch(chat, 0)
        assert message["state"] == ("cancelled" if signals == 1 else "running")
