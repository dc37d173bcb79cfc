"""Chats, their answers, and events on their messages."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.tokens import Identity
from runtime.api import chat_schemas as shown
from runtime.api.schemas import Done
from runtime.api.support import Who, json_object, reply, services, text_field
from runtime.tasks.completions import Request as CompletionRequest
from runtime.tasks.registry import Draining
from runtime.tasks.response_streams import output_of
from runtime.tasks.store import RUNNING, MessageRow, MessageTaken, Partial

router = APIRouter(prefix="/api")
TITLE = "New Chat"
LONGEST_ID = 64
NO_CHAT = "There is no such chat of yours."
FOR_PROVIDER = ("model", "messages", "temperature", "max_tokens", "top_p", "stop", "seed")


@router.post("/v1/chats/new", response_model=shown.Chat, openapi_extra=shown.body(shown.NewChat))
async def new_chat(request: Request, who: Who) -> Response:
    """Make an empty chat."""
    body = await json_object(request)
    content = body.get("chat")
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise HTTPException(422, "`chat` must be a JSON object.")
    title = str(content.get("title") or TITLE)
    chat_id = str(uuid.uuid4())
    await services(request).database.add_chat(chat_id, who.id, title)
    return reply({"id": chat_id, "user_id": who.id, "title": title, "chat": content})


@router.get("/v1/chats/{chat_id}", response_model=shown.Chat)
async def chat(request: Request, who: Who, chat_id: str) -> Response:
    """Return a chat with its messages; those still being written with their text so far."""
    here = services(request)
    found = await here.database.chat(chat_id)
    if found is None or not _may_see(who, found.user_id):
        raise HTTPException(404, NO_CHAT)
    rows = await here.task_store.messages_of(chat_id)
    running = [row.task_id for row in rows if row.state == RUNNING]
    partials = await here.streams.read(running)
    history = {
        "currentId": rows[-1].id if rows else None,
        "messages": {row.id: _message(row, partials.get(row.task_id)) for row in rows},
    }
    content = {"id": chat_id, "title": found.title, "history": history}
    return reply({**found.__dict__, "chat": content})


def _message(row: MessageRow, partial: Partial | None) -> dict[str, Any]:
    """Return a message; of a running one the longer of the stored and the live text."""
    text, sequence = row.content, row.sequence
    if partial is not None and partial.sequence > sequence:
        text, sequence = partial.text, partial.sequence
    return {
        "id": row.id,
        "role": "assistant",
        "content": text,
        "output": output_of(text),
        "done": row.state != RUNNING,
        "state": row.state,
        "task_id": row.task_id,
        "sequence_number": sequence,
        "timestamp": int(row.created_at),
    }


@router.post(
    "/chat/completions",
    response_model=shown.Started,
    openapi_extra=shown.body(shown.Completion),
)
async def complete(request: Request, who: Who) -> Response:
    """Start an answer in the background and return its task; its text goes to the sockets."""
    here = services(request)
    body = await json_object(request)
    answer = await _prepare(request, who, body)
    try:
        await here.begin(answer, new_chat=None if body.get("chat_id") else TITLE)
    except MessageTaken:
        raise HTTPException(409, "An answer for this message is still running.") from None
    except Draining:
        raise HTTPException(503, "This worker is shutting down.") from None
    return reply({"status": True, "chat_id": answer.chat_id, "task_ids": [answer.task_id]})


async def _prepare(request: Request, who: Identity, body: dict[str, Any]) -> CompletionRequest:
    """Check what was sent; raise 404 for a chat that is not the caller's."""
    text_field(body, "model")
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise HTTPException(422, "`messages` must be a list that is not empty.")
    chat_id = str(body.get("chat_id") or uuid.uuid4())
    message_id = str(body.get("id") or uuid.uuid4())
    if len(chat_id) > LONGEST_ID or len(message_id) > LONGEST_ID:
        raise HTTPException(422, f"An id is longer than {LONGEST_ID} characters.")
    if body.get("chat_id"):
        await require_chat(request, who, chat_id)
    for_provider = {name: body[name] for name in FOR_PROVIDER if name in body}
    return CompletionRequest(
        task_id=str(uuid.uuid4()),
        chat_id=chat_id,
        message_id=message_id,
        user_id=who.id,
        body={**for_provider, "stream": True},
    )


@router.post(
    "/v1/chats/{chat_id}/messages/{message_id}/event",
    response_model=Done,
    openapi_extra=shown.body(shown.MessageEvent),
)
async def event(request: Request, who: Who, chat_id: str, message_id: str) -> Response:
    """Send an event about a message to all of the caller's sockets."""
    await require_chat(request, who, chat_id)
    body = await json_object(request)
    data = {"type": text_field(body, "type"), "data": body.get("data")}
    payload = {"chat_id": chat_id, "message_id": message_id, "data": data}
    await services(request).emit_to_user(who.id, payload)
    return reply({"status": True})


async def require_chat(request: Request, who: Identity, chat_id: str) -> None:
    """Raise 404 unless the chat is the caller's (or the caller is an admin)."""
    owner = await services(request).chat_owner(chat_id)
    if owner is None or not _may_see(who, owner):
        raise HTTPException(404, NO_CHAT)


def _may_see(who: Identity, owner: str) -> bool:
    return owner == who.id or who.is_admin
