"""The saved content of notes: read, and replaced from outside the editors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, StringConstraints

from runtime.accounts.identity import Identity
from runtime.api.requests import JsonRoute
from runtime.api.room_schemas import Identifier
from runtime.api.schemas import Strict
from runtime.api.support import Who, reply, services

router = APIRouter(prefix="/api/v1/notes", route_class=JsonRoute)
LONGEST_TEXT = 1 << 20


class NewContent(Strict):
    """The text that takes the place of everything in a note."""

    text: Annotated[str, StringConstraints(max_length=LONGEST_TEXT, pattern=r"^[^\x00]*$")]


class Content(BaseModel):
    """The saved text of a note; the version grows with every change."""

    document_id: str
    version: int
    text: str


@router.get("/{note_id}/content", response_model=Content)
async def content(request: Request, who: Who, note_id: Identifier) -> Response:
    """Return the saved text of a note: what its editors wrote until a moment ago."""
    await _require(request, who, note_id, write=False)
    return await _content(request, f"note:{note_id}")


@router.post("/{note_id}/content", response_model=Content)
async def replace(request: Request, who: Who, note_id: Identifier, body: NewContent) -> Response:
    """Replace the text of a note; editors that have it open are told to drop their copies."""
    await _require(request, who, note_id, write=True)
    await services(request).documents.replace(f"note:{note_id}", body.text)
    return await _content(request, f"note:{note_id}")


async def _content(request: Request, document: str) -> Response:
    row = await services(request).documents.saved(document)
    version, text = (row.version, row.text) if row else (0, "")
    return reply({"document_id": document, "version": version, "text": text})


async def _require(request: Request, who: Identity, note: str, *, write: bool) -> None:
    """Raise 404 unless the caller may see the note, 403 unless they may do more."""
    memberships = services(request).memberships
    allowed = await memberships.permission("note", note, who.id, who.user.role)
    if allowed is None:
        raise HTTPException(404, "There is no such note of yours.")
    if write and allowed != "write":
        raise HTTPException(403, "You may read this note, but not change it.")
