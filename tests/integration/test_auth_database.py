"""Changes of accounts and their log: SQLite and PostgreSQL, several workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from postgres_server import postgres

from harness.waiting import wait_for
from runtime.accounts.store import Accounts
from runtime.accounts.tokens import Tokens
from runtime.storage.database import Database, User
from runtime.supervision import Supervisor

SECRET = "0123456789abcdef0123456789abcdef"
ANN = User("ann", "ann@x.example", "Ann", "user", "hash")


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def workers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Give two workers' connections to one database that has the account `ann`."""
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path}/auth.db"
        if request.param == "postgresql":
            url = await (await stack.enter_async_context(postgres(tmp_path))).new()
        found = [Database(url) for _ in range(2)]
        for database in found:
            await database.open()
            stack.push_async_callback(database.close)
        await found[0].add_user(ANN)
        yield found


async def test_reader_of_the_log_misses_no_change_of_concurrent_writers(
    workers: list[Database],
) -> None:
    """Numbers appear in their order, so whoever reads on from the last sees every revocation."""
    log, seen, last = Accounts(workers[1]), [], 0
    revoking = [workers[n % 2].revoke(f"j{n}", "ann", None) for n in range(60)]
    done = asyncio.ensure_future(asyncio.gather(*revoking))
    while not (done.done() and len(seen) >= 60):
        for change in await log.changes_after(last):
            seen.append(change.jti)
            assert change.number > last
            last = change.number
    assert sorted(seen) == sorted(f"j{n}" for n in range(60))
    assert await log.last_change() == last


async def test_every_sign_out_everywhere_counts(workers: list[Database]) -> None:
    """Of workers that raise an account's stamp at once, none is lost."""
    accounts = [Accounts(database) for database in workers]
    done = await asyncio.gather(*(accounts[n % 2].revoke_tokens("ann") for n in range(20)))
    found = await workers[0].user_by_email(ANN.email)
    assert all(done)
    assert found is not None
    assert found.stamp == 20


async def test_changes_of_accounts_are_stored_and_told(workers: list[Database]) -> None:
    """Name, role, password and removal are in the database, and in the log that others read."""
    here, there = Accounts(workers[0]), Accounts(workers[1])
    assert await here.change("ann", name="Anna", role="pending")
    assert [(u.name, u.role, u.stamp) for u in await there.all()] == [("Anna", "pending", 0)]
    assert await here.change("ann", password_hash="other")
    changed = await workers[1].user_by_email(ANN.email)
    assert changed is not None
    assert (changed.password_hash, changed.stamp) == ("other", 1)
    assert await here.remove("ann")
    assert await there.all() == []
    assert [c.user_id for c in await there.changes_after(0)] == ["ann"] * 3
    for missing in (here.remove("ann"), here.change("ann", name="x"), here.revoke_tokens("ann")):
        assert await missing is False


async def test_worker_that_follows_the_log_needs_no_notice(workers: list[Database]) -> None:
    """A revocation on one worker ends what the other remembers, by the database alone."""
    here, there = (Tokens(database, SECRET, None) for database in workers)
    supervisor = Supervisor()
    supervisor.run("changes", there.follow_forever)
    token, _ = here.issue("ann")
    identity = await there.verify(token)
    assert identity is not None
    await here.revoke(identity.claims)

    async def refused() -> bool:
        return await there.verify(token) is None

    await wait_for(refused, 3, "refused")
    await supervisor.stop()
