"""Sessions in signed cookies, and what is common to both kinds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from runtime.accounts.identity import Claims, Identity
from runtime.accounts.sessions import CookieSessions, Lifetime, SessionTooLarge
from runtime.storage.database import User

SECRET = "0123456789abcdef0123456789abcdef"
MONTH = 30 * 86400


def signed_in(jti: str, user: str = "u1") -> Identity:
    """Return who holds the token `jti`."""
    return Identity(User(user, "a@b.c", "A", "user"), Claims(user, jti, 0, None))


async def test_cookie_holds_the_data_for_the_sign_in_that_wrote_it() -> None:
    """The cookie gives the data back to its token, and to no other of the same account."""
    sessions = CookieSessions(SECRET, Lifetime(MONTH, rolling=True))
    first = await sessions.merge(None, signed_in("one"), {"a": 1})
    again = await sessions.merge(first.cookie, signed_in("one"), {"b": 2})
    loaded = await sessions.load(again.cookie, signed_in("one"))
    assert loaded is not None
    assert loaded.data == {"a": 1, "b": 2}
    assert await sessions.load(again.cookie, signed_in("two")) is None


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: "x" + c, lambda _: "", lambda _: "é"]
)
async def test_cookie_that_was_changed_is_no_session(change: Callable[[str], str]) -> None:
    """A cookie that we did not sign as it is counts for nothing."""
    sessions = CookieSessions(SECRET, Lifetime(MONTH, rolling=True))
    session = await sessions.merge(None, signed_in("one"), {"a": 1})
    assert await sessions.load(change(session.cookie), signed_in("one")) is None


async def test_cookie_of_another_secret_is_no_session() -> None:
    """A deployment does not read another's cookies."""
    lifetime = Lifetime(MONTH, rolling=True)
    theirs = await CookieSessions(SECRET[::-1], lifetime).merge(None, signed_in("one"), {"a": 1})
    assert await CookieSessions(SECRET, lifetime).load(theirs.cookie, signed_in("one")) is None


async def test_session_that_does_not_fit_a_cookie_is_refused() -> None:
    """What a browser would drop is an error that says how much fits."""
    sessions = CookieSessions(SECRET, Lifetime(MONTH, rolling=True))
    for size in (3000, 5000):  # the second is too long even before it is encoded
        with pytest.raises(SessionTooLarge, match="4096 fit"):
            await sessions.merge(None, signed_in("one"), {"a": "x" * size})


async def test_session_that_does_not_roll_ends_however_much_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Use prolongs a rolling session, and leaves another's end where it was."""
    begun = time.time()
    for rolling, alive in ((True, True), (False, False)):
        sessions = CookieSessions(SECRET, Lifetime(100, rolling))
        monkeypatch.setattr(time, "time", lambda: begun)
        session = await sessions.merge(None, signed_in("one"), {"a": 1})
        for used in (60, 120):
            monkeypatch.setattr(time, "time", lambda used=used: begun + used)
            found = await sessions.load(session.cookie, signed_in("one"))
            session = found or session
        assert (found is not None) is alive
