"""What ends an outage for the callers: a probe that succeeds, whatever the ones before met."""

from __future__ import annotations

import pytest

from harness.waiting import wait_for
from runtime.redis.breaker import Breaker
from runtime.redis.errors import BreakerOpen


async def test_a_probe_that_meets_something_unforeseen_is_made_again() -> None:
    """Else the breaker would stay open until the worker is restarted."""
    answers = [ValueError("not a role"), None]

    async def probe() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    breaker = Breaker(probe)
    breaker.open("planted")
    with pytest.raises(BreakerOpen, match="not reachable"):
        await breaker.check()
    await wait_for(lambda: not breaker.is_open, 10, "the breaker closes")
    await breaker.check()
    assert (answers, breaker.reason) == ([], "ValueError: not a role")
    await breaker.close()
