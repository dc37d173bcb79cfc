"""Tokens and passwords on a real SQLite database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtime.accounts.passwords import Passwords
from runtime.accounts.tokens import Tokens
from runtime.storage.database import Database, DatabaseUnavailable, EmailTaken, User

SECRET = "0123456789abcdef0123456789abcdef"


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Yield a database with one user, `u1`."""
    found = Database(f"sqlite:///{tmp_path}/t.db")
    await found.open()
    await found.add_user(User("u1", "a@b.c", "A", "user", "hash"), first_is_admin=True)
    yield found
    await found.close()


async def test_issued_token_is_verified(database: Database) -> None:
    """A token names the account that it was issued to."""
    tokens = Tokens(database, SECRET, 60)
    token, _ = tokens.issue("u1")
    identity = await tokens.verify(token)
    assert identity is not None
    assert (identity.id, identity.is_admin) == ("u1", True)


async def test_wrong_key_expiry_and_unknown_user_are_refused(database: Database) -> None:
    """A token of another key, an expired one, and one of nobody are all no identity."""
    other = Tokens(database, SECRET[::-1], 60).issue("u1")[0]
    expired = Tokens(database, SECRET, -60).issue("u1")[0]
    nobody = Tokens(database, SECRET, 60).issue("u2")[0]
    tokens = Tokens(database, SECRET, 60)
    assert [await tokens.verify(t) for t in (other, expired, nobody, "x.y.z")] == [None] * 4


async def test_a_token_of_a_clock_that_was_ahead_is_valid(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signed in before a clock was set back, or at a worker that is ahead, stays so."""
    tokens, ahead = Tokens(database, SECRET, 600), time.time() + 300
    with monkeypatch.context() as patched:
        patched.setattr("runtime.accounts.tokens.time.time", lambda: ahead)
        token, _ = tokens.issue("u1")
    identity = await tokens.verify(token)
    assert identity is not None
    await tokens.revoke(identity.claims)
    assert await tokens.verify(token) is None


async def test_revocation_is_seen_by_a_worker_that_was_told_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any notice a revoked token is refused once the short memory is over."""
    here, there = Tokens(database, SECRET, 60), Tokens(database, SECRET, 60)
    token, _ = here.issue("u1")
    identity = await there.verify(token)
    assert identity is not None
    await here.revoke(identity.claims)
    assert await here.verify(token) is None
    monkeypatch.setattr("runtime.accounts.verified.ALONE_S", -1.0)
    assert await there.verify(token) is None


async def test_notice_beats_the_memory(database: Database) -> None:
    """A worker that was told refuses at once, whatever it remembers."""
    tokens = Tokens(database, SECRET, 60)
    token, _ = tokens.issue("u1")
    identity = await tokens.verify(token)
    assert identity is not None
    tokens.note_revoked(identity.claims.jti)
    assert await tokens.verify(token) is None


async def test_database_error_is_no_refusal(tmp_path: Path) -> None:
    """When the database cannot be asked, verification raises instead of saying no."""
    without_tables = Database(f"sqlite:///{tmp_path}/t.db")
    tokens = Tokens(without_tables, SECRET, 60)
    token, _ = tokens.issue("u1")
    with pytest.raises(DatabaseUnavailable):
        await tokens.verify(token)
    await without_tables.close()


async def test_email_is_unique_and_revoking_twice_is_harmless(database: Database) -> None:
    """A second account with the address is refused; a second revocation is not."""
    with pytest.raises(EmailTaken):
        await database.add_user(User("u9", "a@b.c", "B", "user", "hash"))
    for _ in range(2):
        await database.revoke("j", "u1", None)
    assert await database.user_if_not_revoked("u1", "j") is None


async def test_password_fits_only_itself() -> None:
    """A hash verifies its password, no other, and no unknown account."""
    passwords = Passwords(1, 64)
    stored = await passwords.hash("right")
    answers = [await passwords.verify(s, p) for s, p in ((stored, "right"), (stored, "wrong"))]
    assert [*answers, await passwords.verify(None, "right")] == [True, False, False]
    passwords.close()
