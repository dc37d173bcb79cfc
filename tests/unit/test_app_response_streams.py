"""The log of an answer that is being written: what a reader gets from it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.tasks.response_streams import ResponseStream, parse_log


def apply(log: bytes, command: tuple[Any, ...]) -> bytes:
    """Return the log after a command, as the server would have it; unchanged when refused."""
    if command[0] == "SET":
        return bytes(command[2])
    _, _, _, _, length, lines, _ = command
    return log + bytes(lines) if len(log) == length else log


def write(stream: ResponseStream, log: bytes) -> bytes:
    """Bring the log up to date once, and note the answer as `ResponseStreams` does."""
    command, upto = stream.command("key", 1000), stream.sequence
    after = apply(log, command)
    refused = command[0] == "EVAL" and after == log
    stream.length, stream.written = (0, 0) if refused else (len(after), upto)
    return after


@given(st.lists(st.tuples(st.lists(st.text(min_size=1)), st.booleans()), max_size=30))
def test_log_holds_the_text_whatever_redis_loses(rounds: list[tuple[list[str], bool]]) -> None:
    """Pieces in any rhythm, the log lost at any time: after a refusal it is whole again."""
    stream, log = ResponseStream("t", "c", "m"), b""
    for pieces, lost in rounds:
        for piece in pieces:
            stream.add(piece)
        log = write(stream, b"" if lost else log)
        log = write(stream, log)  # the round after: a refusal has been noticed
    partial = parse_log("t", log) if log else None
    if partial is not None:
        assert partial == stream.partial


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=200))
def test_log_stays_within_a_few_times_its_text(pieces: list[str]) -> None:
    """The log is written anew before its deltas outgrow the text."""
    stream, log = ResponseStream("t", "c", "m"), b""
    for piece in pieces:
        stream.add(piece)
        log = write(stream, log)
        assert len(log) <= 2 * stream.snapshot
    assert parse_log("t", log) == stream.partial


def test_text_ends_before_a_line_that_does_not_follow() -> None:
    """A hole in the log shortens the text; it never joins what does not belong together."""
    stream = ResponseStream("t", "c", "m")
    stream.add("a")
    log = write(stream, b"")
    for piece in "bcd":
        stream.add(piece)
    lines = stream._delta(1) + stream._delta(3)
    partial = parse_log("t", log + lines)
    assert partial is not None
    assert (partial.text, partial.sequence) == ("ab", 2)


def test_log_that_cannot_be_read_is_none() -> None:
    """Bytes of another version, or half a line, give nothing instead of an error."""
    for log in (b"", b"{}\n", b"nonsense", b'{"output": []}\n'):
        assert parse_log("t", log) is None
