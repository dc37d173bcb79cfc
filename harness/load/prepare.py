"""Make accounts and tokens before the measured part, through the routes every target has."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import aiohttp
import orjson

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.errors import UserError
from harness.history.errors import classify
from harness.history.records import OK
from harness.history.writer import HistoryWriter
from harness.load.accounts import Account, Accounts
from harness.load.addresses import forwarded_for, require_loopback
from harness.load.entry import Entry
from harness.plan import Plan

SIGN_INS_PER_ACCOUNT = 8  # targets allow 10 to 15 in three minutes
AT_ONCE_PER_WORKER = 6
REQUEST_TIMEOUT_S = 20.0
HTTP_OK = 200


async def prepare(deployment: Deployment, plan: Plan, run: RunFolder, clock: RunClock) -> Accounts:
    """Sign up the admin, add all accounts, sign every one in; write `run.accounts`.

    Raises UserError when the target answers anything but what these routes promise.
    """
    entry = Entry.of(deployment)
    require_loopback([*entry.urls, deployment.provider_url])
    writer = HistoryWriter(run.history, "prepare", clock)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            maker = AccountMaker(http, entry, writer)
            accounts = await maker.make(plan)
            accounts.model = await find_model(http, deployment.provider_url)
    finally:
        writer.close()
    accounts.write(run.accounts)
    return accounts


async def find_model(http: aiohttp.ClientSession, provider_url: str) -> str:
    """Return the first model of the provider; raise UserError when it offers none."""
    base = provider_url.rstrip("/").removesuffix("/v1")
    async with http.get(f"{base}/v1/models") as response:
        body = orjson.loads(await response.read())
    models = [entry["id"] for entry in body.get("data", [])]
    if not models:
        raise UserError(f"{base}/v1/models: expected at least one model, got {body!r}")
    return str(models[0])


class AccountMaker:
    """Creates accounts over all workers at once, a bounded number of requests at a time."""

    def __init__(self, http: aiohttp.ClientSession, entry: Entry, writer: HistoryWriter) -> None:
        self._http = http
        self._entry = entry
        self._writer = writer
        self._password = secrets.token_urlsafe(12)
        self._numbers = iter(range(1, 1 << 24))
        self._turns = asyncio.Semaphore(AT_ONCE_PER_WORKER * len(entry.urls))

    async def make(self, plan: Plan) -> Accounts:
        """Return all accounts of the plan, signed in."""
        admin = self._account("admin")
        await self._sign_up(admin)
        users = [self._account(f"u{n}") for n in range(plan.users)]
        canary = self._account("canary")
        sign_outs = sum(step.do == "sign_out" for step in plan.timetable)
        pools = -(-sign_outs // SIGN_INS_PER_ACCOUNT)
        pool = [self._account(f"spare-{n}") for n in range(pools)]
        visits = sum(step.do == "visit" for step in plan.timetable)
        guests = [self._account(f"guest-{n}") for n in range(visits)]
        await _all(self._add(n, a, admin) for n, a in enumerate([*users, canary, *pool, *guests]))
        spare = [self._spare(pool[k % pools], k) for k in range(sign_outs)]
        await _all(self._sign_in(n, a) for n, a in enumerate([*users, canary, *spare, *guests]))
        return Accounts(admin, canary, users, spare, guests=guests)

    def _account(self, name: str) -> Account:
        address = forwarded_for(next(self._numbers))
        email = f"{name}@load.example"
        return Account(name, email, self._password, address, token_name=name)

    def _spare(self, account: Account, k: int) -> Account:
        """Return the account once more, for a token of its own that step k signs out."""
        address = forwarded_for(next(self._numbers))
        return Account(
            account.name, account.email, account.password, address, account.id, token_name=f"t{k}"
        )

    async def _sign_up(self, admin: Account) -> None:
        status, body = await self._post(
            0,
            "signup",
            {"name": admin.name, "email": admin.email, "password": admin.password},
            admin.headers(),
        )
        self._require(status, body, "signup", "a fresh target, whose first user becomes admin")
        admin.id, admin.token = str(body["id"]), str(body["token"])

    async def _add(self, number: int, account: Account, admin: Account) -> None:
        fields = {
            "name": account.name,
            "email": account.email,
            "password": account.password,
            "role": "user",
        }
        async with self._turn():
            status, body = await self._post(number, "add", fields, admin.headers())
        self._require(status, body, "add", "the new user")
        account.id = str(body["id"])

    async def _sign_in(self, number: int, account: Account) -> None:
        worker = number % len(self._entry.urls)
        fields = {"email": account.email, "password": account.password}
        async with self._turn():
            identity = self._writer.invoke("sign_in", account=account.name, worker=worker)
            status, body = await self._post(number, "signin", fields, account.headers())
        if status != HTTP_OK:
            outcome, code = classify(status, detail="detail" in body)
            self._writer.complete(outcome, identity, "sign_in", error=code)
        self._require(status, body, "signin", "a token")
        self._writer.complete(OK, identity, "sign_in", token=account.token_name)
        account.id, account.token = str(body["id"]), str(body["token"])

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until one more request may be sent; the target must not be blamed for this time."""
        async with self._turns:
            yield

    async def _post(
        self, number: int, route: str, fields: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Return the status, 0 when there was none, and the body."""
        worker = number % len(self._entry.urls)
        url = f"{self._entry.url(worker)}/api/v1/auths/{route}"
        headers = headers | self._entry.pin(worker)
        try:
            async with self._http.post(
                url, json=fields, headers=headers, allow_redirects=False
            ) as response:
                body = _json(await response.read())
                if wrong := self._entry.misplaced(worker, response.headers):
                    raise UserError(f"{url}: {wrong}: {response.status} {body!r}")
                return response.status, body
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, {"text": f"{url}: {type(error).__name__}: {error}"}

    def _require(self, status: int, body: dict[str, Any], route: str, expected: str) -> None:
        needed = {"id"} if route == "add" else {"id", "token"}
        if status == HTTP_OK and needed <= body.keys():
            return
        raise UserError(
            f"POST /api/v1/auths/{route}: expected 200 with {expected}; got {status} {body!r}. "
            "The workers' logs say why."
        )


async def _all(tasks: Iterable[Awaitable[None]]) -> None:
    """Await all; at the first error cancel the rest and raise it (a TaskGroup would wrap it)."""
    futures = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*futures)
    finally:
        for future in futures:
            future.cancel()


def _json(data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"text": data[:200].decode(errors="replace")}
    return body if isinstance(body, dict) else {"value": body}
