"""The rolling window against a model that remembers every attempt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.limits.rate_limit import RateLimit, network_of
from runtime.limits.window import Tally, Window
from runtime.redis.keys import Keys

WINDOWS = st.builds(
    Window,
    limit=st.integers(1, 6),
    window_ms=st.integers(1, 5000),
    bucket_ms=st.integers(1, 2000),
)
STEPS = st.lists(st.integers(0, 3000), max_size=60)  # ms between attempts


def run(window: Window, steps: list[int]) -> tuple[list[int], list[int]]:
    """Return the instants of admitted and of denied attempts, and check each decision."""
    counts: dict[int, int] = {}
    admitted: list[int] = []
    denied: list[int] = []
    now = 10**12
    for step in steps:
        now += step
        oldest = window.counting(now)[0] * window.bucket_ms
        model = sum(at >= oldest for at in admitted)
        assert window.used(counts, now) == model
        if window.retry_after_ms(counts, now):
            denied.append(now)
            assert model >= window.limit
        else:
            admitted.append(now)
            assert model < window.limit
            counts[window.bucket(now)] = counts.get(window.bucket(now), 0) + 1
    return admitted, denied


@given(WINDOWS, STEPS)
def test_no_window_holds_more_than_the_limit(window: Window, steps: list[int]) -> None:
    """Wherever a window of the configured length is laid, at most `limit` were admitted in it."""
    admitted, _ = run(window, steps)
    for first, past in zip(admitted, admitted[window.limit :], strict=False):
        assert past - first >= window.window_ms


@given(WINDOWS, STEPS)
def test_every_denial_has_its_reason_within_window_and_bucket(
    window: Window, steps: list[int]
) -> None:
    """An attempt is denied only when `limit` were admitted in the last window plus one bucket.

    So denials, however many, never prolong themselves.
    """
    admitted, denied = run(window, steps)
    for now in denied:
        recent = [at for at in admitted if now - window.ttl_ms < at <= now]
        assert len(recent) >= window.limit


@given(WINDOWS, st.dictionaries(st.integers(0, 40), st.integers(0, 9)), st.integers(0, 60_000))
def test_retry_after_is_the_first_instant_that_admits(
    window: Window, buckets: dict[int, int], now_ms: int
) -> None:
    """After exactly the time told an attempt is admitted, a millisecond before it is not."""
    current = window.bucket(now_ms)
    counts = {current - back: count for back, count in buckets.items()}
    wait = window.retry_after_ms(counts, now_ms)
    assert window.used(counts, now_ms + wait) < window.limit
    assert wait == 0 or window.used(counts, now_ms + wait - 1) >= window.limit
    assert wait <= window.ttl_ms


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), st.randoms())
def test_learning_in_any_order_never_loses_own_counts(
    told: list[tuple[int, int]], shuffled: random.Random
) -> None:
    """Answers may overtake each other: the own count is the largest that was ever told."""
    shuffled.shuffle(told)
    tally = Tally()
    for own, others in told:
        tally.learn(7, own, own + others)
    assert tally.own.get(7, 0) == max((own for own, _ in told), default=0)


@pytest.fixture
def alone() -> RateLimit:
    """Give a limit of three attempts without Redis."""
    window = Window(3, 60_000, 60_000)
    return RateLimit(None, Keys("P"), "signin", window, instance="w", secret="s")


async def test_memory_limit_ignores_case_and_keeps_keys_apart(alone: RateLimit) -> None:
    """Without Redis: the limit holds per key, upper and lower case are one key."""
    took = [await alone.take(email, "10.0.0.1") for email in ("A@x.y", "a@X.y ", "a@x.y", "a@x.y")]
    assert [d.admitted for d in took] == [True, True, True, False]
    assert [d.remaining for d in took] == [2, 1, 0, 0]
    assert 0 < took[3].retry_after_s <= 120
    assert (await alone.take("a@x.y", "10.0.0.2")).admitted
    assert (await alone.look("a@x.y", "10.0.0.1")).admitted is False


async def test_memory_of_keys_is_bounded(alone: RateLimit, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys come, only so many are remembered, the latest of them."""
    monkeypatch.setattr("runtime.limits.rate_limit.REMEMBERED", 10)
    for n in range(50):
        await alone.take(str(n))
    assert alone.status()["keys"] == 10
    assert (await alone.look("49")).remaining == 2
    assert (await alone.look("0")).remaining == 3


async def test_keys_tell_nothing(alone: RateLimit) -> None:
    """Neither the e-mail nor the address can be read in a key, nor guessed without the secret."""
    key = alone._key(("ann@x.y", "10.0.0.1"))
    other = RateLimit(None, Keys("P"), "signin", alone._window, instance="w", secret="t")
    assert "ann" not in key
    assert "10.0.0.1" not in key
    assert other._key(("ann@x.y", "10.0.0.1")) != key
    assert alone._key(("ann", "@x.y")) != alone._key(("ann@", "x.y"))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_ipv6_clients_count_by_their_network(address: str, network: str) -> None:
    """A client owns a whole /64 and must not get a fresh limit from each address of it."""
    assert network_of(address) == network
