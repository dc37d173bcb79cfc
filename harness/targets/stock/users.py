"""Accounts in SQLite, tokens as JWT, sign-outs as keys in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
import time
import uuid
from contextlib import closing
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel
from redis.exceptions import WatchError
from starsessions import load_session

from harness.targets.stock import jobs
from harness.targets.stock.limiter import count_sign_in
from harness.targets.stock.settings import DATABASE, SECRET_KEY, redis

DAY_S = 86400
COUNTED = os.environ.get("STOCK_VISITS") == "watch"  # else nobody counts them
User = dict[str, Any]
FORGET = {"Set-Cookie": "token=; Max-Age=0; Path=/"}
log = logging.getLogger(__name__)
router = APIRouter(prefix="/api/v1/auths")


class SignIn(BaseModel):
    """The form of a sign-in."""

    email: str
    password: str


class SignUp(SignIn):
    """The form of a new account."""

    name: str
    role: str = "user"


def database() -> sqlite3.Connection:
    """Return a connection to the one database."""
    rows = sqlite3.connect(DATABASE, timeout=30)
    rows.execute(
        "CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name, email UNIQUE, role, hash)"
    )
    return rows


def _hash(password: str, salt: bytes) -> str:
    return salt.hex() + ":" + hashlib.scrypt(password.encode(), salt=salt, n=2048, r=8, p=1).hex()


def _add(form: SignUp) -> User:
    user = {"id": str(uuid.uuid4()), "name": form.name, "email": form.email, "role": form.role}
    with closing(database()) as rows, rows:
        values = (*user.values(), _hash(form.password, os.urandom(16)))
        rows.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", values)
    return user


def _with_token(user: User) -> User:
    claims = {**user, "jti": str(uuid.uuid4()), "exp": int(time.time()) + DAY_S}
    return {**user, "token": jwt.encode(claims, SECRET_KEY, algorithm="HS256")}


def _claims(token: str) -> User:
    try:
        claims: User = jwt.decode(token, SECRET_KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token") from None
    return claims


async def who(token: str) -> User:
    """Return the token's claims; raise 401 when it is invalid or was signed out."""
    claims = _claims(token)
    if await redis.exists(f"revoked:{claims['jti']}"):
        raise HTTPException(401, "signed out")
    if COUNTED:
        await _count(f"visits:{claims['id']}")
    return claims


async def _count(key: str) -> None:
    """Add one to a counter, by the transaction of redis-py's own documentation."""
    async with redis.pipeline(transaction=True) as pipe:
        while True:
            try:
                await pipe.watch(key)
                visits = int(await pipe.get(key) or 0)
                pipe.multi()
                pipe.set(key, visits + 1, ex=DAY_S)
                await pipe.execute()
            except WatchError:
                continue
            return


async def current_user(request: Request) -> User:
    """Return the claims of the request's token; forget the cookie of one that is not good."""
    try:
        return await who(_token(request))
    except Exception:
        log.exception("the token was not accepted")
        raise HTTPException(401, "sign in again", headers=FORGET) from None


def user_in_thread(request: Request) -> User:
    """Do the same in one of FastAPI's threads, with the blocking client."""
    claims = _claims(_token(request))
    if jobs.client.exists(f"revoked:{claims['jti']}"):
        raise HTTPException(401, "signed out")
    return claims


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


Current = Annotated[User, Depends(user_in_thread if jobs.THREADS else current_user)]


@router.post("/signup")
def sign_up(form: SignUp) -> User:
    """Make the first account, who becomes admin."""
    return _with_token(_add(form.model_copy(update={"role": "admin"})))


@router.post("/add")
def add(form: SignUp, user: Current) -> User:
    """Make an account, as the admin."""
    if user["role"] != "admin":
        raise HTTPException(403, "only the admin adds users")
    return _add(form)


@router.post("/signin")
async def sign_in(form: SignIn) -> User:
    """Return a new token, unless there were too many attempts."""
    count_sign_in(form.email)
    return await asyncio.to_thread(_sign_in, form)


def _sign_in(form: SignIn) -> User:
    with closing(database()) as rows:
        found = rows.execute(
            "SELECT id, name, email, role, hash FROM users WHERE email = ?", (form.email,)
        ).fetchone()
    salt = bytes.fromhex(found[4].partition(":")[0]) if found else b""
    if not found or _hash(form.password, salt) != found[4]:
        raise HTTPException(400, "wrong email or password")
    return _with_token(dict(zip(("id", "name", "email", "role"), found, strict=False)))


@router.get("/")
async def me(user: Current) -> User:
    """Return who the token's owner is."""
    return user


@router.post("/signout")
async def sign_out(request: Request, user: Current) -> dict[str, bool]:
    """Sign the token out everywhere, and end the session."""
    await load_session(request)
    request.session.clear()
    await redis.set(f"revoked:{user['jti']}", "1", ex=DAY_S)
    if jobs.THREADS:
        await redis.rpush(jobs.QUEUE, user["name"])
    return {"status": True}
