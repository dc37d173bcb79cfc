"""What an admin does to accounts. Every change takes effect on all workers within a second."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.api import schemas
from runtime.api.auths import public
from runtime.api.requests import JsonRoute
from runtime.api.support import Admin, reply, services

router = APIRouter(prefix="/api/v1/users", route_class=JsonRoute)


@router.get("/", response_model=schemas.Accounts)
async def list_all(request: Request, _: Admin) -> Response:
    """Return all accounts, the oldest first."""
    users = await services(request).accounts.all()
    return reply({"users": [public(user) for user in users], "total": len(users)})


@router.post("/{user_id}/update", response_model=schemas.Done)
async def update(
    request: Request, who: Admin, user_id: str, body: schemas.AccountUpdate
) -> Response:
    """Change name, role or password. A new password voids all tokens of the account."""
    if user_id == who.id and body.role not in (None, "admin"):
        raise HTTPException(403, "Nobody may take the role of admin from themselves.")
    here = services(request)
    changes = body.model_dump(exclude_none=True, exclude={"password"})
    if body.password is not None:
        changes["password_hash"] = await here.passwords.hash(body.password)
    if not changes:
        raise HTTPException(422, "Nothing to change: send `name`, `role` or `password`.")
    _require(await here.accounts.change(user_id, **changes))
    here.tokens.user_changed(user_id)
    return reply({"status": True})


@router.post("/{user_id}/sessions/revoke", response_model=schemas.Done)
async def revoke_sessions(request: Request, _: Admin, user_id: str) -> Response:
    """Sign an account out everywhere: void all its tokens, close all its sockets."""
    _require(await services(request).tokens.revoke_user(user_id))
    return reply({"status": True})


@router.delete("/{user_id}", response_model=schemas.Done)
async def remove(request: Request, who: Admin, user_id: str) -> Response:
    """Delete an account."""
    if user_id == who.id:
        raise HTTPException(403, "Nobody may remove themselves.")
    here = services(request)
    _require(await here.accounts.remove(user_id))
    here.tokens.user_changed(user_id)
    return reply({"status": True})


def _require(found: bool) -> None:
    if not found:
        raise HTTPException(404, "There is no such account.")
