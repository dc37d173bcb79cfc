"""List and stop background tasks, on whichever worker they run."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.tokens import Identity
from runtime.api import chat_schemas as shown
from runtime.api.chats import require_chat
from runtime.api.support import Admin, Who, reply, services
from runtime.redis.errors import RedisUnavailable
from runtime.tasks.stops import CANCELLED, FINISHED, NOT_FOUND, REQUESTED
from runtime.tasks.store import RUNNING, TaskRow

router = APIRouter(prefix="/api/tasks")


@router.get("", response_model=shown.Tasks)
async def list_all(request: Request, _: Admin) -> Response:
    """Return the ids of all running tasks; 503 while Redis is away."""
    try:
        return reply({"tasks": await services(request).tasks.list_all()})
    except RedisUnavailable as error:
        raise HTTPException(503, f"Tasks cannot be listed now: {error}") from None


@router.get("/chat/{chat_id}", response_model=shown.ChatTasks)
async def list_chat(request: Request, who: Who, chat_id: str) -> Response:
    """Return the ids of a chat's running tasks; 503 while Redis is away."""
    await require_chat(request, who, chat_id)
    try:
        return reply({"task_ids": await services(request).tasks.list_item(chat_id)})
    except RedisUnavailable as error:
        raise HTTPException(503, f"Tasks cannot be listed now: {error}") from None


@router.post("/stop/{task_id}", response_model=shown.Stopped)
async def stop(request: Request, who: Who, task_id: str) -> Response:
    """Stop one task; its owner or an admin may. Also accepted while Redis is away."""
    row = await services(request).task_store.task(task_id)
    if row is None or not _may_stop(who, row):
        return reply(_not_found(f"Task with ID {task_id} not found."))
    state = await _stop_row(request, row)
    return reply(_answer(state, f"Task {task_id} stopped."))


@router.post("/chat/{chat_id}/stop", response_model=shown.ChatStopped)
async def stop_chat(request: Request, who: Who, chat_id: str) -> Response:
    """Stop all tasks of a chat. The database says which they are, so Redis need not."""
    await require_chat(request, who, chat_id)
    here = services(request)
    ids = await here.task_store.running(chat_id)
    if not ids:
        return reply(_not_found(f"No tasks found for item {chat_id}."))
    states = await asyncio.gather(*(here.tasks.stop(task_id) for task_id in ids))
    state = next(s for s in (REQUESTED, CANCELLED, FINISHED) if s in states)
    return reply({**_answer(state, f"All tasks for item {chat_id} stopped."), "task_ids": ids})


async def _stop_row(request: Request, row: TaskRow) -> str:
    if row.state != RUNNING:
        return FINISHED
    return await services(request).tasks.stop(row.task_id)


def _may_stop(who: Identity, row: TaskRow) -> bool:
    return who.is_admin or row.user_id == who.id


def _answer(state: str, message: str) -> dict[str, Any]:
    return {"status": True, "message": message, "state": state}


def _not_found(message: str) -> dict[str, Any]:
    return {"status": False, "message": message, "state": NOT_FOUND}
