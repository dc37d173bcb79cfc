"""Sign-up, sign-in, sign-out, the caller's password, and who am I."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.accounts.sessions import COOKIE
from runtime.api.requests import JsonRoute
from runtime.api.schemas import (
    Added,
    Done,
    NewAccount,
    NewPassword,
    SignedIn,
    SignIn,
    SignUp,
    WhoAmI,
)
from runtime.api.support import TOKEN_COOKIE, Admin, Who, reply, services
from runtime.storage.database import EmailTaken, User

router = APIRouter(prefix="/api/v1/auths", route_class=JsonRoute)
ROLES = ("admin", "user", "pending")


@router.post("/signup", response_model=SignedIn)
async def sign_up(request: Request, body: SignUp) -> Response:
    """Make an account and sign it in; the first one becomes admin."""
    return _signed_in(request, await _add_user(request, body, "user", first_is_admin=True))


@router.post("/add", response_model=Added)
async def add(request: Request, _: Admin, body: NewAccount) -> Response:
    """Make an account for somebody else."""
    user = await _add_user(request, body, body.role, first_is_admin=False)
    token, _expires = services(request).tokens.issue(user.id, user.stamp)
    return reply({"token": token, "token_type": "Bearer", **public(user)})


@router.post("/signin", response_model=SignedIn)
async def sign_in(request: Request, body: SignIn) -> Response:
    """Exchange e-mail and password for a token; 429 after too many attempts."""
    await _admit(request, body.email)
    here = services(request)
    user = await here.database.user_by_email(body.email)
    fits = await here.passwords.verify(user.password_hash if user else None, body.password)
    if user is None or not fits:
        raise HTTPException(400, "The email or password provided is incorrect.")
    return _signed_in(request, user)


@router.post("/update/password", response_model=SignedIn)
async def change_password(request: Request, who: Who, body: NewPassword) -> Response:
    """Change the caller's password; voids all tokens of before, and answers with a new one."""
    await _admit(request, who.user.email)
    here = services(request)
    if not await here.passwords.verify(who.user.password_hash, body.password):
        raise HTTPException(400, "The password provided is incorrect.")
    hashed = await here.passwords.hash(body.new_password)
    await here.accounts.change(who.id, password_hash=hashed)
    here.tokens.user_changed(who.id)
    user = await here.database.user_by_email(who.user.email)
    if user is None:
        raise HTTPException(404, "The account was removed meanwhile.")
    return _signed_in(request, user)


@router.post("/signout", response_model=Done)
async def sign_out(request: Request, who: Who) -> Response:
    """Revoke the token, for every worker and for good; end its sockets and the session."""
    here = services(request)
    await here.sign_out(who)
    here.drop_session(request.cookies.get(COOKIE))
    answer = reply({"status": True})
    answer.delete_cookie(TOKEN_COOKIE, httponly=True, **here.cookie_flags("auth"))
    answer.delete_cookie(COOKIE, httponly=True, **here.cookie_flags("session"))
    return answer


@router.get("/", response_model=WhoAmI)
async def who_am_i(who: Who) -> Response:
    """Return the account that the token belongs to."""
    return reply({**public(who.user), "expires_at": who.claims.expires_at})


def public(user: User) -> dict[str, Any]:
    """Return what others may see of an account."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "profile_image_url": "/user.png",
    }


async def _admit(request: Request, email: str) -> None:
    """Count an attempt to give a password; 429 when there were too many."""
    address = request.client.host if request.client else ""
    if wait_s := await services(request).sign_in_limit.take(email, address):
        raise HTTPException(
            429,
            f"Too many attempts. Please try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )


async def _add_user(request: Request, body: SignUp, role: str, *, first_is_admin: bool) -> User:
    here = services(request)
    hashed = await here.passwords.hash(body.password)
    user = User(str(uuid.uuid4()), body.email, body.name, role, hashed)
    try:
        return await here.database.add_user(user, first_is_admin=first_is_admin)
    except EmailTaken:
        raise HTTPException(400, "This email is already registered.") from None


def _signed_in(request: Request, user: User) -> Response:
    """Answer with a new token; a session of before is not carried over (session fixation)."""
    here = services(request)
    token, expires = here.tokens.issue(user.id, user.stamp)
    body = {"token": token, "token_type": "Bearer", "expires_at": expires, **public(user)}
    answer = reply(body)
    life = here.settings.jwt_expires_in
    flags = here.cookie_flags("auth")
    answer.set_cookie(TOKEN_COOKIE, token, max_age=life, httponly=True, **flags)
    if old := request.cookies.get(COOKIE):
        here.drop_session(old)
        answer.delete_cookie(COOKIE, httponly=True, **here.cookie_flags("session"))
    return answer
