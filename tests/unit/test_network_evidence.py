"""What the harness measures on a link counts from before the PING was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from harness.network import evidence
from harness.network.evidence import Witness

if TYPE_CHECKING:
    import asyncio

Clock = list[float]  # the time now, in seconds


class SlowWriter:
    """The process is put aside for 2 ms after the bytes went out, as on a busy machine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def write(self, data: bytes) -> None:
        """Send them at once."""

    async def drain(self) -> None:
        """Take 2 ms."""
        self._clock[0] += 0.002


class Reader:
    """The answer comes 300 ms after the PING was sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def read(self, most: int) -> bytes:
        """Return when the clock says so."""
        self._clock[0] = 0.3
        return b"+PONG\r\n"[:most]


async def test_time_that_passes_after_sending_belongs_to_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that is put aside between sending and reading makes no answer look early."""
    clock: Clock = [0.0]
    monkeypatch.setattr(evidence, "monotonic", lambda: clock[0])
    witness = Witness(
        cast("asyncio.StreamReader", Reader(clock)), cast("asyncio.StreamWriter", SlowWriter(clock))
    )
    assert await witness.ping(1) == ("answered", pytest.approx(300))
