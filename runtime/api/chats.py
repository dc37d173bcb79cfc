"""Chats, their answers, and events on their messages."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.api.support import Who, json_object, reply, services, text_field
from runtime.completions import Request as CompletionRequest
from runtime.database import MessageTaken
from runtime.provider import ProviderError
from runtime.tasks import Draining
from runtime.tokens import Identity

router = APIRouter(prefix="/api")
TITLE = "New Chat"
LONGEST_ID = 64
FOR_PROVIDER = ("model", "messages", "temperature", "max_tokens", "top_p", "stop", "seed")


@router.get("/models")
async def models(request: Request, _: Who) -> Response:
    """Return the provider's models."""
    try:
        return reply(await services(request).provider.models())
    except ProviderError as error:
        raise HTTPException(502, f"The provider does not answer: {error}") from None


@router.post("/v1/chats/new")
async def new_chat(request: Request, who: Who) -> Response:
    """Make an empty chat."""
    body = await json_object(request)
    chat = body.get("chat")
    title = str((chat if isinstance(chat, dict) else {}).get("title") or TITLE)
    chat_id = str(uuid.uuid4())
    await services(request).database.add_chat(chat_id, who.id, title)
    return reply({"id": chat_id, "user_id": who.id, "title": title, "chat": chat or {}})


@router.post("/chat/completions")
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


@router.post("/v1/chats/{chat_id}/messages/{message_id}/event")
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
    if owner is None or (owner != who.id and not who.is_admin):
        raise HTTPException(404, "There is no such chat of yours.")
