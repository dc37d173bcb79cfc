"""Running replicas: whether they answer, honour one token, and hear each other's events.

Each URL is a replica, or a balancer before several. Questions to one URL go over connections of
their own, so that a balancer spreads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import socketio

from harness.doctor.findings import Finding
from harness.errors import UserError
from harness.probes.base import close_quietly
from harness.probes.join import join, make_client
from harness.waiting import WaitTimeout, wait_for

ANSWER_S = 5.0
HEARD_S = 5.0
TRIES = 8  # questions to one URL: enough to meet both of two replicas with 99 %
SOCKETS_OF_ONE = 6  # where one URL is all, it may be a balancer
EVENT_TYPE = "harness:doctor"
AUTHS = "/api/v1/auths"
OK, UNAUTHORIZED, FORBIDDEN, UNAVAILABLE = 200, 401, 403, 503
ADDRESS = {"X-Forwarded-For": "198.51.100.9"}  # a documentation address of the doctor's own


@dataclass
class Ear:
    """A socket on a replica, and the numbers that it heard."""

    url: str
    client: socketio.AsyncClient
    heard: set[str] = field(default_factory=set)

    def listen(self, payload: Any) -> None:
        """Take note of an event of ours."""
        data = payload.get("data") if isinstance(payload, dict) else None
        if isinstance(data, dict) and data.get("type") == EVENT_TYPE:
            self.heard.add(str(data["data"]["n"]))


@asynccontextmanager
async def asking() -> AsyncIterator[aiohttp.ClientSession]:
    """Give an HTTP client that opens a connection for every request."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=ADDRESS,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as http:
        yield http


async def call(
    http: aiohttp.ClientSession, method: str, url: str, token: str = "", **options: Any
) -> tuple[int, Any]:
    """Return status and JSON, None when it is none; raise ClientError, OSError, TimeoutError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(
        method, url, headers=headers, allow_redirects=False, **options
    ) as answer:
        try:
            return answer.status, orjson.loads(await answer.read())
        except orjson.JSONDecodeError:
            return answer.status, None


async def answering(
    http: aiohttp.ClientSession, urls: list[str]
) -> tuple[list[str], list[Finding]]:
    """Return the URLs where such an app answers, and findings for the others and for /ready."""
    alive, found = [], []
    for url in urls:
        try:
            health = (await call(http, "GET", f"{url}/health"))[0]
            status, body = await call(http, "GET", f"{url}{AUTHS}/")
            ready = await call(http, "GET", f"{url}/ready")
        except (aiohttp.ClientError, OSError) as error:
            found.append(_silent(url, str(error) or f"no answer within {ANSWER_S:g} s"))
            continue
        if health != OK or status not in (UNAUTHORIZED, FORBIDDEN) or "detail" not in (body or ()):
            said = f"GET /health {health}, GET {AUTHS}/ without a token {status} {body!r:.80}"
            found.append(_silent(url, said))
            continue
        alive.append(url)
        found += _not_ready(url, *ready)
    return alive, found


def _silent(url: str, evidence: str) -> Finding:
    return Finding("no-answer", "error", url, "no app of this kind answers", evidence,
                   "users of this replica get errors",
                   "start it, see its log, and that host and port are right")  # fmt: skip


def _not_ready(url: str, status: int, body: Any) -> Iterator[Finding]:
    if status == UNAVAILABLE and isinstance(body, dict):
        yield Finding("not-ready", "error", url, "says that it is not ready",
                      str(body.get("detail", body))[:300],
                      "what it names does not work; a balancer that asks /ready leaves it out",
                      "see to what it names")  # fmt: skip


async def sign_in(http: aiohttp.ClientSession, url: str, email: str, password: str) -> str:
    """Return a token; raise UserError when the account is refused."""
    fields = {"email": email, "password": password}
    status, body = await call(http, "POST", f"{url}{AUTHS}/signin", json=fields)
    if status != OK or not isinstance(body, dict) or "token" not in body:
        raise UserError(
            f"{url}: the sign-in of {email} was refused: {status} {body!r:.200}; give an account "
            "that exists by --admin, and its password in HARNESS_ADMIN_PASSWORD"
        )
    return str(body["token"])


async def tokens(http: aiohttp.ClientSession, urls: list[str], token: str) -> list[Finding]:
    """Return a finding for each URL that does not honour the token every time."""
    found = []
    for url in urls:
        asked = [call(http, "GET", f"{url}{AUTHS}/", token) for _ in range(TRIES)]
        said = [status for status, _ in await asyncio.gather(*asked)]
        if refused := sum(status != OK for status in said):
            found.append(
                Finding("token-refused", "error", url, "a token of another replica is refused",
                        f"{refused} of {TRIES} answers with the token of {urls[0]} were "
                        f"{sorted({s for s in said if s != OK})}",
                        "users are signed out at random",
                        "one WEBUI_SECRET_KEY and one DATABASE_URL on all replicas")
            )  # fmt: skip
    return found


async def settings(http: aiohttp.ClientSession, urls: list[str], token: str) -> list[Finding]:
    """Compare the fingerprints that replicas give an admin; apps without them say nothing."""
    prints: dict[str, set[str]] = {}
    for url in urls:
        asked = [call(http, "GET", f"{url}/api/v1/diagnostics", token) for _ in range(TRIES)]
        for status, body in await asyncio.gather(*asked):
            if status == OK and isinstance(body, dict) and "settings_fingerprint" in body:
                prints.setdefault(str(body["settings_fingerprint"]), set()).add(url)
    if len(prints) < 2:
        return []
    told = "; ".join(f"{name} at {', '.join(sorted(where))}" for name, where in prints.items())
    return [
        Finding("settings-differ", "warning", " and ".join(urls), "replicas are not set alike",
                f"fingerprints of their variables: {told}",
                "what a user sees depends on who answers",
                "the same variables on all; give them by --env to see which")
    ]  # fmt: skip


async def events(http: aiohttp.ClientSession, urls: list[str], token: str) -> list[Finding]:
    """Post an event through each replica, and tell which sockets did not hear it."""
    ears: list[Ear] = []
    try:
        for url in urls:
            ears += [await _ear(url, token) for _ in range(1 if urls[1:] else SOCKETS_OF_ONE)]
        posted = await _post(http, urls, token)
        with contextlib.suppress(WaitTimeout):  # what was not heard is the finding
            await wait_for(lambda: all(e.heard >= posted.keys() for e in ears), HEARD_S, "heard")
        return list(_unheard(posted, ears))
    finally:
        await asyncio.gather(*(close_quietly(ear.client.shutdown()) for ear in ears))


async def _ear(url: str, token: str) -> Ear:
    client = make_client()
    ear = Ear(url, client)
    client.on("events", ear.listen)
    await join(client, url, {"token": token}, ANSWER_S, ADDRESS)
    return ear


async def _post(http: aiohttp.ClientSession, urls: list[str], token: str) -> dict[str, str]:
    """Post through every URL; return event → URL, with the status where it was refused."""
    new = {"chat": {"title": "harness doctor", "messages": [], "history": {"messages": {}}}}
    status, chat = await call(http, "POST", f"{urls[0]}/api/v1/chats/new", token, json=new)
    if status != OK:
        return {"none": f"{urls[0]} (POST /api/v1/chats/new: {status})"}
    posted: dict[str, str] = {}
    for url in urls if urls[1:] else urls * SOCKETS_OF_ONE:
        number = uuid.uuid4().hex[:8]
        body = {"type": EVENT_TYPE, "data": {"n": number}}
        path = f"/api/v1/chats/{chat['id']}/messages/{uuid.uuid4()}/event"
        status, _ = await call(http, "POST", f"{url}{path}", token, json=body)
        posted[number] = url if status == OK else f"{url} (refused: {status})"
    await call(http, "DELETE", f"{urls[0]}/api/v1/chats/{chat['id']}", token)  # where it can
    return posted


def _unheard(posted: dict[str, str], ears: list[Ear]) -> Iterator[Finding]:
    """Yield one finding with every way on which events were lost."""
    lost = sorted(
        {(url, ear.url) for n, url in posted.items() for ear in ears if n not in ear.heard}
    )
    if not lost:
        return
    count = sum(n not in ear.heard for n in posted for ear in ears)
    ways = ", ".join(f"{origin} → {there}" for origin, there in lost)
    yield Finding("events-do-not-cross", "error", " and ".join(sorted({e.url for e in ears})),
                  "an event posted at one replica does not arrive at another",
                  f"{count} of {len(posted) * len(ears)} did not arrive within {HEARD_S:g} s: "
                  f"{ways}",
                  "chats do not update, stops and notices get lost: Redis is not wired on all",
                  "the same REDIS_URL, REDIS_KEY_PREFIX and WEBSOCKET_MANAGER=redis on all; then "
                  "see that Redis is reachable from each")  # fmt: skip
