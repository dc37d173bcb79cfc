"""What is remembered of tokens: how long, and what makes it forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from test_auth_sessions import signed_in

from harness.waiting import wait_for
from runtime.accounts.store import Accounts
from runtime.accounts.tokens import Tokens
from runtime.accounts.verified import ALONE_S, FOLLOWED_S, LONGEST_S, VerifiedTokens
from runtime.storage.database import Database, DatabaseUnavailable, User
from runtime.supervision import Supervisor

SECRET = "0123456789abcdef0123456789abcdef"


class Clock:
    """A monotonic clock that stands still until told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("runtime.accounts.verified.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock for the memory."""
    return Clock(monkeypatch)


def test_answer_counts_shortly_alone_and_longer_while_the_log_is_read(clock: Clock) -> None:
    """Without the log 0.3 s; with it until the log was not read for a while, and 30 s at most."""
    memory = VerifiedTokens()
    memory.follow()
    clock.now += 1
    memory.put("t", signed_in("j"), clock.now)
    clock.now += ALONE_S
    assert memory.get("t") is not None
    clock.now += 0.01
    assert memory.get("t") is None
    memory.followed(clock.now)
    assert memory.get("t") is not None
    clock.now += FOLLOWED_S + 0.01
    assert memory.get("t") is None
    clock.now += LONGEST_S
    memory.followed(clock.now)
    assert memory.get("t") is None


def test_answer_of_before_the_log_was_followed_counts_only_alone(clock: Clock) -> None:
    """A change may have been missed between that answer and the log's beginning."""
    memory = VerifiedTokens()
    memory.put("t", signed_in("j"), clock.now)
    clock.now += ALONE_S + 0.01
    memory.follow()
    memory.followed(clock.now)
    assert memory.get("t") is None


def test_answer_to_a_question_of_before_a_change_is_not_remembered(clock: Clock) -> None:
    """An answer that was under way when the account changed, or the token ended, is old."""
    memory = VerifiedTokens()
    asked = clock.now
    clock.now += 0.1
    memory.changed("u1")
    memory.put("t", signed_in("j"), asked)
    assert memory.get("t") is None
    memory.revoked("k")
    memory.put("t2", signed_in("k"), clock.now + 1)
    assert memory.get("t2") is None


def test_change_of_an_account_forgets_its_tokens_and_no_others(clock: Clock) -> None:
    """Every token of the account is asked about anew."""
    memory = VerifiedTokens()
    for n, user in enumerate(("u1", "u1", "u2")):
        memory.put(f"t{n}", signed_in(f"j{n}", user), clock.now)
    memory.changed("u1")
    assert [memory.get(f"t{n}") is None for n in range(3)] == [True, True, False]
    assert len(memory) == 1


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Yield a database with one user, `u1`."""
    found = Database(f"sqlite:///{tmp_path}/t.db")
    await found.open()
    await found.add_user(User("u1", "a@b.c", "A", "user", "hash"))
    yield found
    await found.close()


@pytest_asyncio.fixture
async def following(database: Database) -> AsyncIterator[Tokens]:
    """Yield tokens of a worker that follows the log, and knows `u1`'s."""
    tokens, supervisor = Tokens(database, SECRET, None), Supervisor()
    supervisor.run("changes", tokens.follow_forever)
    await wait_for(lambda: tokens._verified._followed_at > 0, 3, "the log is followed")
    yield tokens
    await supervisor.stop()


async def refused(tokens: Tokens, token: str) -> bool:
    """Tell whether a token is refused."""
    return await tokens.verify(token) is None


@pytest.mark.parametrize("what", ["revoke", "revoke_user", "remove", "pending", "password"])
async def test_whatever_ends_a_token_reaches_a_worker_that_was_told_nothing(
    database: Database, following: Tokens, what: str
) -> None:
    """The database's log alone ends what another worker remembers; also without an expiry."""
    other, accounts = Tokens(database, SECRET, None), Accounts(database)
    token, expires = following.issue("u1")
    identity = await following.verify(token)
    assert (identity is not None, expires) == (True, None)
    assert identity is not None
    await {
        "revoke": lambda: other.revoke(identity.claims),
        "revoke_user": lambda: other.revoke_user("u1"),
        "remove": lambda: accounts.remove("u1"),
        "pending": lambda: accounts.change("u1", role="pending"),
        "password": lambda: accounts.change("u1", password_hash="new"),
    }[what]()
    await wait_for(lambda: refused(following, token), 3, "refused")


async def test_remembered_token_needs_no_database(
    following: Tokens, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log is followed, a known token is not asked about again."""
    asked = []
    ask = database.user_if_not_revoked

    async def counted(*arguments: Any) -> Any:
        asked.append(time.monotonic())
        return await ask(*arguments)

    monkeypatch.setattr(database, "user_if_not_revoked", counted)
    token, _ = following.issue("u1")
    until = time.monotonic() + 3 * ALONE_S
    while time.monotonic() < until:
        assert await following.verify(token) is not None
        await asyncio.sleep(0.01)
    assert len(asked) == 1


async def test_new_sign_in_after_revoking_all_is_valid_at_once(database: Database) -> None:
    """Stamps are counted, not timed: a token of the same second as the revocation is good."""
    tokens = Tokens(database, SECRET, 60)
    old, _ = tokens.issue("u1")
    assert await tokens.revoke_user("u1")
    user = await database.user_by_email("a@b.c")
    assert user is not None
    new, _ = tokens.issue(user.id, user.stamp)
    assert (await tokens.verify(old), await tokens.verify(new) is not None) == (None, True)
    assert not await tokens.revoke_user("nobody")


async def test_policy_decides_when_the_database_is_lost(database: Database, clock: Clock) -> None:
    """Closed: nobody knows, so an error. Open: whoever was known stays so, unless revoked here."""
    closed, opened = (Tokens(database, SECRET, 60, policy=p) for p in ("closed", "open"))
    token, never_seen = closed.issue("u1")[0], closed.issue("u1")[0]
    assert await opened.verify(token) is not None
    await database.close()
    clock.now += LONGEST_S
    with pytest.raises(DatabaseUnavailable):
        await closed.verify(token)
    with pytest.raises(DatabaseUnavailable):
        await opened.verify(never_seen)
    last = await opened.verify(token)
    assert last is not None
    assert (opened.status["accepted_unverified"], opened.status["refused_unverified"]) == (1, 1)
    opened.note_revoked(last.claims.jti)
    assert await opened.verify(token) is None
