"""Tokens on several workers: revoked one by one, all at once, in outages, and under pressure."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, Deployment, User, deployment

ME = "/api/v1/auths/"
NEW = "new " + PASSWORD


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield two workers whose tokens never expire; the first account is the admin."""
    async with deployment(environ={"JWT_EXPIRES_IN": "-1"}) as found:
        found.admin = await found.user()  # type: ignore[attr-defined]  # for the tests here
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def statuses(user: User, path: str = ME) -> list[int]:
    """Return what the workers answer."""
    return [(await user.call("GET", path, n))[0] for n in range(len(user.deployment.urls))]


async def refused(user: User) -> bool:
    """Tell whether every worker refuses the user's token."""
    return set(await statuses(user)) == {401}


async def again(user: User, password: str = PASSWORD) -> User:
    """Sign the same account in once more; return who holds the new token."""
    other = User(user.deployment, "", user.email)
    body = {"email": user.email, "password": password}
    status, answer = await other.call("POST", "/api/v1/auths/signin", 1, body)
    assert status == 200, answer
    other.token, other.id = answer["token"], answer["id"]
    return other


async def admin(parts: Deployment, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Let the admin call the other worker."""
    caller: User = parts.admin  # type: ignore[attr-defined]  # the fixture's
    return await caller.call(method, path, 1, body)


async def test_admin_signs_an_account_out_everywhere(parts: Deployment) -> None:
    """All tokens are void on all workers, the sockets are closed, and a new sign-in works."""
    user = await parts.user()
    other, bystander = await again(user), await parts.user()
    sockets = [await user.connect(0), await other.connect(1)]
    assert await admin(parts, "POST", f"/api/v1/users/{user.id}/sessions/revoke") == (
        200,
        {"status": True},
    )
    for each in (user, other):
        await wait_for(lambda each=each: refused(each), 1, "refused everywhere")
    await wait_for(lambda: not any(s.connected for s in sockets), 3, "sockets closed")
    assert await statuses(await again(user)) == [200, 200]
    assert await statuses(bystander) == [200, 200]
    for each in (user, other):
        await each.leave()


async def test_new_password_voids_all_tokens_of_before(parts: Deployment) -> None:
    """The answer's token is good everywhere, older ones and the old password are not."""
    user = await parts.user()
    other = await again(user)
    await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
    wrong = {"password": "wrong", "new_password": NEW}
    assert (await user.call("POST", "/api/v1/auths/update/password", 0, wrong))[0] == 400
    right = {"password": PASSWORD, "new_password": NEW}
    status, answer = await user.call("POST", "/api/v1/auths/update/password", 0, right)
    assert (status, user.cookie) == (200, "")
    await wait_for(lambda: refused(other), 1, "refused everywhere")
    user.token = answer["token"]
    assert await statuses(user) == [200, 200]
    assert (await again(user, NEW)).token
    old = {"email": user.email, "password": PASSWORD}
    assert (await user.call("POST", "/api/v1/auths/signin", 0, old))[0] == 400


async def test_role_and_removal_take_effect_on_all_workers(parts: Deployment) -> None:
    """A new admin may at once what admins may; a removed account may nothing."""
    user = await parts.user()
    assert await statuses(user, "/api/v1/users/") == [403, 403]
    path = f"/api/v1/users/{user.id}"
    assert (await admin(parts, "POST", f"{path}/update", {"role": "admin"}))[0] == 200
    await wait_for(lambda: _all(user, 200), 1, "admin everywhere")
    assert (await admin(parts, "DELETE", path))[0] == 200
    await wait_for(lambda: refused(user), 1, "refused everywhere")
    assert (await admin(parts, "DELETE", path))[0] == 404


async def _all(user: User, status: int) -> bool:
    return await statuses(user, "/api/v1/users/") == [status, status]


async def test_session_ends_with_its_sign_in(parts: Deployment) -> None:
    """A cookie that outlives the sign-out opens nothing for the next token (session fixation)."""
    user = await parts.user()
    await user.call("POST", "/api/v1/session/data", 0, {"secret": 1})
    cookie = user.cookie
    await user.call("POST", "/api/v1/auths/signout", 1)
    later = await again(user)
    later.cookie = cookie
    assert await later.call("GET", "/api/v1/session/data", 0) == (200, {"data": {}})


async def test_cookies_are_flagged(parts: Deployment) -> None:
    """Scripts cannot read token or session; the flags are those of the settings."""
    user = await parts.user()
    headers = {"Authorization": f"Bearer {user.token}"}
    body = {"email": user.email, "password": PASSWORD}
    sign_in, write = f"{parts.urls[0]}/api/v1/auths/signin", f"{parts.urls[0]}/api/v1/session/data"
    async with (
        parts.http.post(sign_in, json=body) as signed,
        parts.http.post(write, json={"a": 1}, headers=headers) as written,
    ):
        for answer, name in ((signed, "token"), (written, "owui-session")):
            assert answer.cookies[name]["httponly"]
            assert answer.cookies[name]["samesite"] == "lax"


async def test_revoked_token_is_refused_500_times_at_once_while_redis_hangs(
    parts: Deployment,
) -> None:
    """Under pressure, with a hung Redis, no request with a revoked token gets in (W-49)."""
    user, good = await parts.user(), await parts.user()
    assert await statuses(good) == [200, 200]
    parts.redis.signal(signal.SIGSTOP)
    try:
        assert (await user.call("POST", "/api/v1/auths/signout", 0))[0] == 200
        await wait_for(lambda: refused(user), 1, "refused without Redis")
        calls = [who.call("GET", ME, n % 2) for n in range(500) for who in (user, good)]
        answers = [status for status, _ in await asyncio.gather(*calls)]
        assert set(answers[::2]) == {401}
        assert set(answers[1::2]) == {200}
    finally:
        parts.redis.signal(signal.SIGCONT)
    await parts.ready()


async def test_hung_redis_spares_requests_that_need_no_session(parts: Deployment) -> None:
    """A session cookie on any other route costs nothing; its own route says 503 or 504."""
    user = await parts.user()
    await user.call("POST", "/api/v1/session/data", 0, {"a": 1})
    assert user.cookie
    parts.redis.signal(signal.SIGSTOP)
    try:
        for path in ("/health", ME, "/api/models"):
            assert (await user.call("GET", path, 0))[0] == 200
        assert (await user.call("GET", "/api/v1/session/data", 0))[0] == 503
        body = {"email": user.email, "password": PASSWORD}
        assert (await user.call("POST", "/api/v1/auths/signin", 0, body))[0] == 200
    finally:
        parts.redis.signal(signal.SIGCONT)
    await parts.ready()
