"""Channels, notes and shared chats: who may see them. The sockets follow at once."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.identity import Identity
from runtime.api import room_schemas as schemas
from runtime.api.requests import JsonRoute
from runtime.api.schemas import Done
from runtime.api.support import Who, reply, services
from runtime.redis.errors import RedisUnavailable
from runtime.storage.memberships import Kind, Permission, Resource

router = APIRouter(prefix="/api/v1", route_class=JsonRoute)


@router.post("/channels/create", response_model=schemas.Channel)
async def create_channel(request: Request, who: Who, body: schemas.NewChannel) -> Response:
    """Make a channel; its members' sockets join it at once."""
    here = services(request)
    await _require_accounts(request, body.user_ids)
    made = await here.memberships.create("channel", who.id, body.name)
    await here.memberships.grant("channel", made.id, dict.fromkeys(body.user_ids, "write"))
    await here.realtime.enter_users([who.id, *body.user_ids], f"channel:{made.id}")
    return reply(_channel(made))


@router.get("/channels/", response_model=list[schemas.Channel])
async def list_channels(request: Request, who: Who) -> Response:
    """Return the channels that the caller may see."""
    found = await services(request).memberships.visible("channel", who.id, who.user.role)
    return reply([_channel(channel) for channel in found])


@router.get("/channels/{channel_id}/members", response_model=schemas.Members)
async def list_members(request: Request, who: Who, channel_id: schemas.Identifier) -> Response:
    """Return who is in a channel, and who of them is online on any worker."""
    await _require(request, who, "channel", channel_id, "read")
    here = services(request)
    members = await here.memberships.members("channel", channel_id)
    online: set[str] | None
    try:
        online = await here.realtime.pool.active_among([member.id for member in members])
    except RedisUnavailable:
        online = None
    users = [{**m.__dict__, "is_active": None if online is None else m.id in online}
             for m in members]  # fmt: skip
    return reply({"users": users, "total": len(users)})


@router.post("/channels/{channel_id}/update/members/add", response_model=Done)
async def add_members(
    request: Request, who: Who, channel_id: schemas.Identifier, body: schemas.Accounts
) -> Response:
    """Let accounts into a channel; their sockets join it at once, on every worker."""
    await _require(request, who, "channel", channel_id, "own")
    await _require_accounts(request, body.user_ids)
    here = services(request)
    await here.memberships.grant("channel", channel_id, dict.fromkeys(body.user_ids, "write"))
    await here.realtime.enter_users(body.user_ids, f"channel:{channel_id}")
    return reply({"status": True})


@router.post("/channels/{channel_id}/update/members/remove", response_model=Done)
async def remove_members(
    request: Request, who: Who, channel_id: schemas.Identifier, body: schemas.Accounts
) -> Response:
    """Take accounts out of a channel; their sockets leave it at once, on every worker."""
    await _require(request, who, "channel", channel_id, "own")
    here = services(request)
    await here.memberships.withdraw("channel", channel_id, body.user_ids)
    await here.realtime.leave_users(body.user_ids, f"channel:{channel_id}")
    return reply({"status": True})


@router.post("/notes/create", response_model=schemas.Note)
async def create_note(request: Request, who: Who, body: schemas.NewNote) -> Response:
    """Make a note."""
    return reply((await services(request).memberships.create("note", who.id, body.title)).__dict__)


@router.get("/notes/", response_model=list[schemas.Note])
async def list_notes(request: Request, who: Who) -> Response:
    """Return the notes that the caller may see."""
    found = await services(request).memberships.visible("note", who.id, who.user.role)
    return reply([note.__dict__ for note in found])


@router.get("/notes/{note_id}", response_model=schemas.Note)
async def get_note(request: Request, who: Who, note_id: schemas.Identifier) -> Response:
    """Return a note."""
    return reply((await _require(request, who, "note", note_id, "read")).__dict__)


@router.post("/notes/{note_id}/access/update", response_model=Done)
async def share_note(
    request: Request, who: Who, note_id: schemas.Identifier, body: schemas.Grants
) -> Response:
    """Set who has access to a note besides its owner."""
    return await _share(request, who, "note", note_id, body)


@router.post("/chats/{chat_id}/access/update", response_model=Done)
async def share_chat(
    request: Request, who: Who, chat_id: schemas.Identifier, body: schemas.Grants
) -> Response:
    """Set who has access to a chat besides its owner."""
    return await _share(request, who, "chat", chat_id, body)


async def _share(
    request: Request, who: Identity, kind: Kind, identifier: str, body: schemas.Grants
) -> Response:
    await _require(request, who, kind, identifier, "own")
    given: dict[str, Permission] = {g.principal_id: g.permission for g in body.access_grants}
    await _require_accounts(request, list(given))
    here = services(request)
    lost = await here.memberships.set_grants(kind, identifier, given)
    await here.realtime.leave_users(lost, f"{kind}:{identifier}")
    await here.realtime.leave_users(lost, f"doc_{kind}:{identifier}")  # its collaborative text
    return reply({"status": True})


async def _require(
    request: Request, who: Identity, kind: Kind, identifier: str, needed: str
) -> Resource:
    """Return the resource; 404 unless the caller may see it, 403 unless they may do more."""
    memberships = services(request).memberships
    found = await memberships.get(kind, identifier)
    allowed = await memberships.permission(kind, identifier, who.id, who.user.role)
    if found is None or allowed is None:
        raise HTTPException(404, f"There is no such {kind} of yours.")
    if needed == "own" and who.id != found.user_id and not who.is_admin:
        raise HTTPException(403, f"Only the owner of the {kind} may do this.")
    return found


async def _require_accounts(request: Request, accounts: list[str]) -> None:
    """Raise 422 when an id is no account's."""
    if missing := await services(request).memberships.strangers(accounts):
        raise HTTPException(422, f"There is no account `{missing[0]}`.")


def _channel(found: Resource) -> dict[str, str]:
    return {"id": found.id, "user_id": found.user_id, "name": found.title}
