"""Tokens of sockets: cheap to check, gone when revoked, kept while nobody knows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from harness.waiting import wait_for
from runtime.realtime import identities as module
from runtime.realtime.identities import CannotVerify, Identities, SocketIdentity
from runtime.supervision import Supervisor


@dataclass(frozen=True)
class Someone:
    """User and claims in one."""

    id: str = "ann"
    name: str = "Ann"
    role: str = "user"
    jti: str = "t"

    @property
    def user(self) -> Someone:
        """Return the account."""
        return self

    @property
    def claims(self) -> Someone:
        """Return the claims."""
        return self


class Desk:
    """Verifies tokens as told, and notes which sockets are closed."""

    def __init__(self) -> None:
        self.answer: Any = Someone()
        self.asked = 0
        self.closed: list[str] = []
        self.fail_to_close: set[str] = set()
        self.identities = Identities(self._authenticate, self._close)

    async def _authenticate(self, _: str) -> SocketIdentity | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "hang":
            await asyncio.Event().wait()
        found: SocketIdentity | None = self.answer
        return found

    async def _close(self, sid: str) -> None:
        if sid in self.fail_to_close:
            raise RuntimeError("planted")
        self.closed.append(sid)
        self.identities.remove(sid)


@pytest.fixture
def desk() -> Desk:
    """Give a desk with one socket."""
    found = Desk()
    found.identities.add("s", "token", Someone())
    return found


async def test_events_of_a_fresh_token_ask_nobody(desk: Desk) -> None:
    """A thousand events cost no look at the database."""
    for _ in range(1000):
        assert await desk.identities.current("s") == Someone()
    assert desk.asked == 0
    assert await desk.identities.current("stranger") is None


async def test_a_void_token_ends_its_socket(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the answer is old, a void token is found out and the socket closed."""
    monkeypatch.setattr(module, "FRESH_S", -1.0)
    assert await desk.identities.current("s") == Someone()
    assert desk.asked == 1
    desk.answer = None
    assert await desk.identities.current("s") is None
    assert desk.closed == ["s"]


@pytest.mark.parametrize("trouble", [OSError("no database"), "hang"])
async def test_trouble_ends_no_socket(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    """While nobody can verify, or not in time, the last answer counts; a join is refused."""
    monkeypatch.setattr(module, "FRESH_S", -1.0)
    monkeypatch.setattr(module, "VERIFY_WITHIN_S", 0.01)
    desk.answer = trouble
    assert await desk.identities.current("s") == Someone()
    await desk.identities.recheck("s")
    with pytest.raises(CannotVerify):
        await desk.identities.verify("token")
    assert desk.closed == []
    assert desk.identities.unverifiable == 3


async def test_the_sweep_finds_what_was_never_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle socket's token is verified too; a failing check closes none and ends no sweep."""
    monkeypatch.setattr(module, "FRESH_S", -1.0)
    desk.identities.add("other", "token", Someone())
    desk.answer = OSError("no database")
    for sid in ("s", "other"):
        await desk.identities.recheck(sid)
    desk.answer = None
    for sid in ("s", "other", "gone"):
        await desk.identities.recheck(sid)
    assert desk.closed == ["s", "other"]


async def test_the_sweep_goes_on_after_a_failure(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that escapes ends one round; the next finds the other sockets (W-25)."""
    monkeypatch.setattr(module, "FRESH_S", -1.0)
    monkeypatch.setattr(module, "REVERIFY_S", 0.01)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    desk.identities.add("other", "token", Someone())
    desk.fail_to_close.add("s")
    desk.answer = None  # every token is void
    supervisor = Supervisor()
    loop = supervisor.run("sockets", desk.identities.reverify_forever)
    await wait_for(lambda: loop.restarts > 0, 5, "the sweep failed")
    assert desk.closed == []
    desk.fail_to_close.clear()
    await wait_for(lambda: sorted(desk.closed) == ["other", "s"], 5, "both are found")
    await supervisor.stop()
