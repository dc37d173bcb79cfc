"""Received tokens become runs that break at every gap, repeat and step back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import RunClock
from harness.history.writer import HistoryWriter
from harness.load.token_runs import TokenRuns


class Socket:
    """A socket's token runs over a history in memory."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.clock = RunClock()
        self.runs = TokenRuns("u1-0", self)  # type: ignore[arg-type]  # writer's record only

    def record(self, k: str, t: float | None = None, **fields: Any) -> None:
        """Take a record."""
        self.records.append({"k": k, "t": t, **fields})

    def ranges(self, stream: str = "c1-0") -> list[tuple[int, int]]:
        """Return first and last of the stream's runs."""
        return [(r["first"], r["last"]) for r in self.records if r["stream"] == stream]


def received(*texts: str) -> Socket:
    """Return a socket that received these deltas, a second apart, and then ended."""
    socket = Socket()
    for second, text in enumerate(texts):
        socket.runs.feed("m", text, float(second))
    socket.runs.end("c1-0", "m")
    socket.runs.flush()
    return socket


@pytest.mark.parametrize(
    ("texts", "ranges"),
    [
        (["c1-0:0 ", "c1-0:1 ", "c1-0:2 "], [(0, 2)]),
        (["c1-0:0 c1-0:1 c1-0:2 "], [(0, 2)]),
        (["c1-0:0 ", "c1-0:2 "], [(0, 0), (2, 2)]),
        (["c1-0:0 ", "c1-0:1 ", "c1-0:1 ", "c1-0:2 "], [(0, 1), (1, 2)]),
        (["c1-0:1 ", "c1-0:0 "], [(1, 1), (0, 0)]),
        (["c1-0:0 c1-", "0:1 c1-0:1", "2 c1-0:13 "], [(0, 1), (12, 13)]),
        (["c1-0:0 c1-0:1"], [(0, 1)]),
        ([], []),
    ],
    ids=["one by one", "merged", "gap", "repeat", "back", "cut in two", "cut at the end", "none"],
)
def test_runs_are_the_consecutive_numbers(texts: list[str], ranges: list[tuple[int, int]]) -> None:
    """A run is what came in order without a hole."""
    assert received(*texts).ranges() == ranges


def test_a_run_knows_when_its_first_and_last_token_came() -> None:
    """`t0` is the first token's time and `t` the last one's, not the time of writing."""
    (record,) = received("c1-0:0 ", "c1-0:1 ", "c1-0:2 ").records
    assert (record["t0"], record["t"], record["socket"]) == (0.0, 2.0, "u1-0")


def test_a_token_after_the_end_begins_a_run_of_its_own() -> None:
    """Late tokens are evidence too."""
    socket = received("c1-0:0 ")
    socket.runs.feed("m", "c1-0:1 ", 9.0)
    socket.runs.flush()
    assert socket.ranges() == [(0, 0), (1, 1)]


def test_words_that_are_no_tokens_are_counted_and_left_out() -> None:
    """A target that adds words of its own does not disturb the runs."""
    socket = received("c1-0:0 ", "Hello: there 5 ", "c1-0:1 ")
    assert socket.ranges() == [(0, 1)]
    assert socket.runs.foreign == 3


@given(
    numbers=st.lists(st.integers(0, 30), max_size=40),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=30),
)
def test_runs_tell_every_received_number_in_order(numbers: list[int], cuts: list[int]) -> None:
    """Unfolding the runs gives back exactly what was received, however the text was cut."""
    text, texts, turn = "".join(f"c1-0:{n} " for n in numbers), [], 0
    while text:
        size = cuts[turn % len(cuts)]
        texts, text, turn = [*texts, text[:size]], text[size:], turn + 1
    told = [n for first, last in received(*texts).ranges() for n in range(first, last + 1)]
    assert told == numbers


def test_the_record_is_the_documented_one(tmp_path: Path) -> None:
    """Through the real writer a run has the fields of the record format."""
    writer = HistoryWriter(tmp_path, "load-0", RunClock())
    runs = TokenRuns("u1-0", writer)
    runs.feed("m", "c1-0:0 ", 1.5)
    runs.flush()
    writer.close()
    record = orjson.loads(writer.path.read_bytes().splitlines()[1])
    assert record == {
        "t": 1.5,
        "k": "run",
        "stream": "c1-0",
        "socket": "u1-0",
        "first": 0,
        "last": 0,
        "t0": 1.5,
    }
