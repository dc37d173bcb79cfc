"""A herd of handshakes, and the requests of those who are there already, at one real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runtime.accounts.tokens import Tokens
from runtime.realtime.turnstile import Turnstile
from runtime.storage.database import Database, User

HERD = 120
SECRET = "s" * 32


@pytest.mark.parametrize(("places", "overtakes"), [(2, True), (HERD, False)])
async def test_a_request_does_not_stand_behind_the_herd(
    tmp_path: Path, places: int, overtakes: bool
) -> None:
    """Its question is answered while nearly all handshakes still wait; without turns it is not.

    Every token is asked about for the first time, so each question goes to the database.
    """
    database = Database(f"sqlite:///{tmp_path}/herd.db")
    await database.open()
    try:
        await database.add_user(User("ann", "ann@x.example", "Ann", "user"))
        tokens, line, done = Tokens(database, SECRET, 3600.0), Turnstile(places), []

        async def shake_hands(token: str) -> None:
            async with line.turn():
                assert await tokens.verify(token)
            done.append(token)

        herd = [asyncio.create_task(shake_hands(tokens.issue("ann")[0])) for _ in range(HERD)]
        await asyncio.sleep(0)
        assert await tokens.verify(tokens.issue("ann")[0])
        assert (len(done) < HERD / 2) is overtakes
        await asyncio.gather(*herd)
        assert len(done) == HERD
    finally:
        await database.close()
