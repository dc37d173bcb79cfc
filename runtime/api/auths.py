"""Sign-up, sign-in, sign-out, and who am I."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from runtime.api.support import TOKEN_COOKIE, Admin, Who, json_object, reply, services, text_field
from runtime.database import EmailTaken, User
from runtime.sessions import COOKIE

router = APIRouter(prefix="/api/v1/auths")
ROLES = ("admin", "user", "pending")


@router.post("/signup")
async def sign_up(request: Request) -> Response:
    """Make an account and sign it in; the first one becomes admin."""
    user = await _add_user(request, "user", first_is_admin=True)
    return _signed_in(request, user)


@router.post("/add")
async def add(request: Request, _: Admin) -> Response:
    """Make an account for somebody else."""
    body = await json_object(request)
    role = body.get("role", "user")
    if role not in ROLES:
        raise HTTPException(422, f"`role` must be one of {', '.join(ROLES)}.")
    user = await _add_user(request, role, first_is_admin=False)
    token, _expires = services(request).tokens.issue(user.id)
    return reply({"token": token, "token_type": "Bearer", **_public(user)})


@router.post("/signin")
async def sign_in(request: Request) -> Response:
    """Exchange e-mail and password for a token; 429 after too many attempts."""
    body = await json_object(request)
    email = text_field(body, "email").strip().lower()
    password = text_field(body, "password")
    here = services(request)
    address = request.client.host if request.client else ""
    if wait_s := await here.sign_in_limit.take(email, address):
        raise HTTPException(
            429,
            f"Too many attempts. Please try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )
    user = await here.database.user_by_email(email)
    fits = await here.passwords.verify(user.password_hash if user else None, password)
    if user is None or not fits:
        raise HTTPException(400, "The email or password provided is incorrect.")
    return _signed_in(request, user)


@router.post("/signout")
async def sign_out(request: Request, who: Who) -> Response:
    """Revoke the token, for every worker and for good; end its sockets and the session."""
    here = services(request)
    await here.sign_out(who)
    here.drop_session(request.cookies.get(COOKIE))
    answer = reply({"status": True})
    answer.delete_cookie(TOKEN_COOKIE)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/")
async def who_am_i(who: Who) -> Response:
    """Return the account that the token belongs to."""
    return reply({**_public(who.user), "expires_at": who.claims.expires_at})


async def _add_user(request: Request, role: str, *, first_is_admin: bool) -> User:
    body = await json_object(request)
    email = text_field(body, "email").strip().lower()
    if "@" not in email:
        raise HTTPException(400, "The email format you entered is invalid.")
    here = services(request)
    hashed = await here.passwords.hash(text_field(body, "password"))
    user = User(str(uuid.uuid4()), email, text_field(body, "name"), role, hashed)
    try:
        return await here.database.add_user(user, first_is_admin=first_is_admin)
    except EmailTaken:
        raise HTTPException(400, "This email is already registered.") from None


def _signed_in(request: Request, user: User) -> Response:
    """Answer with a new token; a session of before is not carried over (session fixation)."""
    here = services(request)
    token, expires = here.tokens.issue(user.id)
    body = {"token": token, "token_type": "Bearer", "expires_at": expires, **_public(user)}
    answer = reply(body)
    answer.set_cookie(TOKEN_COOKIE, token, httponly=True, **here.cookie_flags("auth"))
    if old := request.cookies.get(COOKIE):
        here.drop_session(old)
        answer.delete_cookie(COOKIE)
    return answer


def _public(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "profile_image_url": "/user.png",
    }
