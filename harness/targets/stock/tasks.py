"""Chat tasks: an asyncio task each, listed in Redis, stopped by a message to all workers."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from fastapi import APIRouter

from harness.targets.stock.settings import PROVIDER, redis
from harness.targets.stock.sockets import tell
from harness.targets.stock.users import Current

TRANSACTION = os.environ.get("STOCK_TASKS") == "transaction"
INITIALIZE = os.environ.get("STOCK_CLUSTER_CLIENT") == "initialized"
CHANNEL = "tasks:stop"
ITEMS = "tasks"
router = APIRouter()
running: dict[str, asyncio.Task[None]] = {}


@router.post("/api/chat/completions")
async def chat(form: dict[str, Any], user: Current) -> dict[str, Any]:
    """Start a task that streams the answer to the user's sockets."""
    chat_id, task_id = form.get("chat_id") or str(uuid.uuid4()), str(uuid.uuid4())
    await _list(chat_id, task_id)
    running[task_id] = asyncio.create_task(_answer(form, user["id"], chat_id, task_id))
    return {"status": True, "chat_id": chat_id, "task_ids": [task_id]}


@router.get("/api/tasks/chat/{chat_id}")
async def tasks_of(chat_id: str, _user: Current) -> dict[str, list[str]]:
    """List the tasks of a chat."""
    return {"task_ids": [str(item) for item in await redis.smembers(f"{ITEMS}:{chat_id}")]}


@router.post("/api/tasks/chat/{chat_id}/stop")
async def stop_chat(chat_id: str, _user: Current) -> dict[str, bool]:
    """Stop every task of a chat."""
    found = await redis.smembers(f"{ITEMS}:{chat_id}")
    for task_id in found:
        await redis.publish(CHANNEL, task_id)
    return {"status": bool(found)}


@router.post("/api/tasks/stop/{task_id}")
async def stop_task(task_id: str, _user: Current) -> dict[str, bool]:
    """Stop one task."""
    await redis.publish(CHANNEL, task_id)
    return {"status": True}


async def _list(chat_id: str, task_id: str) -> None:
    """Put a task on both lists, one after the other or in one transaction."""
    if not TRANSACTION:
        await redis.hset(ITEMS, task_id, chat_id)
        await redis.sadd(f"{ITEMS}:{chat_id}", task_id)
        return
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(ITEMS, task_id, chat_id)
        pipe.sadd(f"{ITEMS}:{chat_id}", task_id)
        await pipe.execute()


async def listen_for_stops() -> None:
    """Cancel the tasks of this worker that somebody stopped on another."""
    if INITIALIZE:
        await redis.initialize()
    pubsub = redis.pubsub()
    await pubsub.subscribe(CHANNEL)
    async for message in pubsub.listen():
        task = running.get(str(message["data"]))
        if message["type"] == "message" and task is not None:
            task.cancel()


async def _answer(form: dict[str, Any], user: str, chat_id: str, task_id: str) -> None:
    message_id = form["id"]
    try:
        async for delta in _deltas(form):
            choices = [{"delta": {"content": delta}}]
            await tell(user, chat_id, message_id, "chat:completion", {"choices": choices})
        await tell(user, chat_id, message_id, "chat:completion", {"done": True})
    except asyncio.CancelledError:
        await tell(user, chat_id, message_id, "chat:tasks:cancel", None)
    finally:
        running.pop(task_id, None)
        await redis.hdel(ITEMS, task_id)
        await redis.srem(f"{ITEMS}:{chat_id}", task_id)


async def _deltas(form: dict[str, Any]) -> AsyncIterator[str]:
    """Yield the text of the provider's stream, piece by piece."""
    body = {"model": form["model"], "messages": form["messages"], "stream": True}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.post(f"{PROVIDER}/chat/completions", json=body) as answer,
    ):
        async for line in answer.content:
            text = line.decode().strip().removeprefix("data: ")
            if not text or text == "[DONE]":
                continue
            if delta := json.loads(text)["choices"][0]["delta"].get("content"):
                yield delta
