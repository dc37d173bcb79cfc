"""Accounts of the load on an external deployment: made by its admin, or existing ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable

import aiohttp

from harness.clock import RunClock
from harness.deploy.model import Deployment
from harness.errors import UserError
from harness.history.writer import HistoryWriter
from harness.load.accounts import Account, Accounts
from harness.load.entry import Entry
from harness.load.prepare import (
    REQUEST_TIMEOUT_S,
    SIGN_INS_PER_ACCOUNT,
    AccountMaker,
)
from harness.load.rate import Rate
from harness.plan import Plan
from harness.targets.external.ask import Found
from harness.targets.external.description import External, Login

DOMAIN = "load.example"


def fresh_prefix() -> str:
    """Return what the addresses of one run's accounts begin with."""
    return f"harness-{secrets.token_hex(4)}-"


def needed(plan: Plan) -> int:
    """Return how many accounts a plan needs: users, canary, and those whose tokens end."""
    return plan.users + 1 + _pools(plan)


def _pools(plan: Plan) -> int:
    sign_outs = sum(step.do == "sign_out" for step in plan.timetable)
    return -(-sign_outs // SIGN_INS_PER_ACCOUNT)


class ExternalAccounts(AccountMaker):
    """Signs in what the plan needs; `made` hears of each account that was made."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        entry: Entry,
        writer: HistoryWriter,
        found: Found,
        logins: tuple[Login, ...] = (),
        prefix: str = "",
        made: Callable[[str], None] = lambda _: None,
        rate: Rate | None = None,
    ) -> None:
        super().__init__(http, entry, writer)
        self._found = found
        self._logins = iter(logins)
        self._prefix = prefix
        self._made = made
        self._rate = rate

    async def _sign_up(self, admin: Account) -> None:
        """Take the account that asked: the harness is nobody's first user here."""
        admin.email, admin.password = self._found.login.email, self._found.login.password
        admin.id, admin.token = self._found.identity, self._found.token
        if not self._found.admin:
            admin.token = ""

    def _account(self, name: str) -> Account:
        account = super()._account(name)
        if name == "admin":
            return account
        if self._prefix:
            account.email = f"{self._prefix}{name}@{DOMAIN}"
        else:
            login = next(self._logins)
            account.email, account.password = login.email, login.password
        return account

    async def _add(self, number: int, account: Account, admin: Account) -> None:
        if self._prefix:
            await super()._add(number, account, admin)
            self._made(account.id)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with super()._turn():
            if self._rate is not None and (wait := self._rate.take()):
                await asyncio.sleep(wait)
            yield


def require_enough(plan: Plan, told: External) -> None:
    """Raise UserError when fewer accounts were given than the plan needs."""
    wanted = needed(plan)
    if told.accounts and len(told.accounts) < wanted:
        raise UserError(
            f"--accounts: {len(told.accounts)} given, and {wanted} are needed: "
            f"{plan.users} users, 1 for canaries, {_pools(plan)} whose tokens "
            "are signed out. Give more, or fewer --users and --set focus.sign_outs_per_s=…"
        )


async def make_accounts(
    deployment: Deployment,
    plan: Plan,
    writer: HistoryWriter,
    clock: RunClock,
    told: External,
    found: Found,
    prefix: str,
    made: Callable[[str], None],
) -> Accounts:
    """Return all accounts, signed in; raise UserError for what the deployment refuses."""
    entry = Entry.of(deployment)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    rate = Rate(told.max_rate, clock.now)
    logins = tuple(itertools.islice(told.accounts, needed(plan))) if not prefix else ()
    async with aiohttp.ClientSession(timeout=timeout) as http:
        maker = ExternalAccounts(http, entry, writer, found, logins, prefix, made, rate)
        return await maker.make(plan)
