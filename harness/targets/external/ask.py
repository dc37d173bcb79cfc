"""Asks a deployment before a run: is anybody there, is it such an app, what does it offer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from harness.deploy.direct import direct
from harness.deploy.model import Node
from harness.errors import UserError
from harness.targets.base import READY, RESYNC_HINT, SESSION_DATA, STOP_STATES
from harness.targets.external.description import External, Login
from harness.targets.external.hosts import require_allowed

ANSWER_S = 5.0
OK, UNAUTHORIZED, FORBIDDEN, TOO_MANY = 200, 401, 403, 429
AUTHS = "/api/v1/auths"
ADDRESS = {"X-Forwarded-For": "198.51.100.8"}  # a documentation address of the asker's own
RUNTIME = "runtime"  # the title of the bundled runtime's OpenAPI document


@dataclass(frozen=True)
class Found:
    """What a deployment was found to be; `login` is the account that asked, with its token."""

    login: Login
    token: str
    identity: str
    admin: bool
    capabilities: frozenset[str] = field(default_factory=frozenset)


async def ask(told: External) -> Found:
    """Return what the deployment offers; raise UserError for what cannot be tested."""
    require_allowed(told.hosts, told.allowed)
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=ADDRESS) as http:
        app = _App(http, told)
        for url in told.urls:
            await app.is_one(url)
        found = await app.sign_in(told.admin or told.accounts[0])
        for url in told.urls[1:]:
            await app.knows(url, found.token)
        offered = told.capabilities
        capabilities = frozenset(offered) if offered is not None else await app.offers(found)
    for node in nodes_of(told):
        await _redis_answers(node)
    return Found(found.login, found.token, found.identity, found.admin, capabilities)


def nodes_of(told: External) -> list[Node]:
    """Return its Redis nodes and sentinels as the probes know them."""
    from pathlib import Path
    from urllib.parse import unquote, urlsplit

    made = []
    for kind, urls, port in (("redis", told.redis, 6379), ("sentinel", told.sentinels, 26379)):
        for number, url in enumerate(urls):
            parts = urlsplit(url)
            login: dict[str, Any] = {"ssl": True} if parts.scheme == "rediss" else {}
            for name in ("username", "password"):
                if value := getattr(parts, name):
                    login[name] = unquote(value)
            host = str(parts.hostname)
            node = Node(f"{kind}-{number}", kind, host, parts.port or port, Path(), login=login)
            made.append(node)
    return made


async def _redis_answers(node: Node) -> None:
    client = direct(node)
    try:
        await client.ping()
    except Exception as error:  # whatever it is, the probes could not work
        where = f"{node.host}:{node.port}"
        raise UserError(
            f"redis://{where} ({node.name}): expected an answer to PING, got "
            f"{type(error).__name__}: {error}. Give its address and credentials, or leave it out"
        ) from error
    finally:
        await client.aclose()


class _App:
    """The questions."""

    def __init__(self, http: aiohttp.ClientSession, told: External) -> None:
        self._http = http
        self._told = told

    async def is_one(self, url: str) -> None:
        """Raise UserError unless an app with this layer's routes answers at a URL."""
        status, body = await self._call("GET", f"{url}/health")
        if status != OK:
            raise UserError(_stranger(url, "GET /health: 200", status, body))
        status, body = await self._call("GET", f"{url}{AUTHS}/")
        if status not in (UNAUTHORIZED, FORBIDDEN) or "detail" not in body:
            wanted = f"GET {AUTHS}/ without a token: 401 with a `detail`"
            raise UserError(_stranger(url, wanted, status, body))

    async def sign_in(self, login: Login) -> Found:
        """Sign in at the first URL; raise UserError for wrong credentials."""
        url = self._told.urls[0]
        fields = {"email": login.email, "password": login.password}
        status, body = await self._call("POST", f"{url}{AUTHS}/signin", json=fields)
        if status != OK or "token" not in body:
            hint = " Wait for its rate limit." if status == TOO_MANY else ""
            raise UserError(
                f"{url}: the sign-in of {login.email} was refused: {status} "
                f"{body.get('detail', body)!r:.200}. Give an account that exists, with its "
                f"password.{hint}"
            )
        admin = body.get("role") == "admin"
        if self._told.admin and not admin:
            raise UserError(
                f"{url}: {login.email} is not an admin (its role is {body.get('role')!r}), and "
                "only admins make accounts; give an admin, or existing accounts by --accounts"
            )
        return Found(login, str(body["token"]), str(body.get("id", "")), admin)

    async def knows(self, url: str, token: str) -> None:
        """Raise UserError unless this URL honours a token of the first one."""
        status, _ = await self._call("GET", f"{url}{AUTHS}/", headers=_bearer(token))
        if status != OK:
            raise UserError(
                f"{url} does not honour a token of {self._told.urls[0]} ({status}): expected "
                "workers of one deployment, with one secret and one database"
            )

    async def offers(self, found: Found) -> frozenset[str]:
        """Return the capabilities that the routes show."""
        url, mine = self._told.urls[0], _bearer(found.token)
        names = set()
        status, body = await self._call("GET", f"{url}/api/v1/session/data", headers=mine)
        if status == OK and isinstance(body.get("data"), dict):
            names.add(SESSION_DATA)
        stop = f"{url}/api/tasks/stop/{uuid.uuid4()}"  # nobody's task
        _, body = await self._call("POST", stop, headers=mine)
        if "state" in body:
            names.add(STOP_STATES)
        _, body = await self._call("GET", f"{url}/ready")
        if "dependencies" in body:
            names.add(READY)
        _, body = await self._call("GET", f"{url}/openapi.json")
        if isinstance(body.get("info"), dict) and body["info"].get("title") == RUNTIME:
            names.add(RESYNC_HINT)  # no route shows it; the bundled runtime is known to
        return frozenset(names)

    async def _call(self, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Return status and JSON object, empty when it is none; raise UserError without answer."""
        try:
            async with self._http.request(method, url, allow_redirects=False, **options) as answer:
                return answer.status, _object(await answer.read())
        except (aiohttp.ClientError, OSError) as error:
            raise UserError(
                f"{url}: nobody answers: {error or 'no answer within 5 s'}. Is it started, and are "
                "host and port right?"
            ) from error


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _stranger(url: str, wanted: str, status: int, body: dict[str, Any]) -> str:
    return (
        f"{url}: not an app of this kind: expected {wanted}; got {status} {body or ''!r:.100}. "
        "It needs the routes of docs/runtime.md, which Open WebUI has too"
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
