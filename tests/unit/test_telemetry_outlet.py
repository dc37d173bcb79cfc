"""Log lines go through a pipe that nobody reads: nobody waits, and what is lost is counted."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator

import pytest

from runtime.telemetry.outlet import Outlet

PAGE = 4096
MOST = 3
LINES = 20


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe that is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(writer, b"." * (PAGE - 1) + b"\n")
    yield reader, writer
    os.close(reader)
    os.close(writer)


def emit(outlet: Outlet, text: str) -> None:
    """Log a line."""
    outlet.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))


def read_until(reader: int, word: str) -> list[str]:
    """Return the lines that came until one holds the word."""
    text = ""
    while word not in text or not text.endswith("\n"):
        text += os.read(reader, PAGE).decode()
    return text.splitlines()


def test_nobody_waits_for_a_full_pipe(pipe: tuple[int, int]) -> None:
    """Lines beyond the bound are dropped; a line says how many once the pipe is read again."""
    outlet = Outlet(pipe[1], MOST)
    for number in range(LINES):
        emit(outlet, f"line {number}")
    dropped = outlet.dropped
    assert LINES - MOST - 1 <= dropped <= LINES - MOST  # the thread may hold one
    _, *lines = read_until(pipe[0], "dropped")
    assert f"{dropped} log lines were dropped: nobody took them in time" in lines
    outlet.flush()
    outlet.close()
    told = [line for line in lines if line.startswith("line ")]
    assert told == [f"line {n}" for n in range(len(told))]


def test_what_was_logged_is_written_after_a_flush(pipe: tuple[int, int]) -> None:
    """In order, also what UTF-8 has no letters for."""
    os.read(pipe[0], PAGE)
    outlet = Outlet(pipe[1])
    for text in ("one", "two \udcff"):
        emit(outlet, text)
    outlet.flush()
    assert os.read(pipe[0], PAGE) == b"one\ntwo \\udcff\n"
    outlet.close()


def test_a_flush_gives_up_when_nobody_reads(pipe: tuple[int, int]) -> None:
    """A worker that ends does not wait for ever for the reader of its log."""
    outlet = Outlet(pipe[1])
    emit(outlet, "stuck")
    outlet.flush()
    assert outlet.dropped == 0
    os.read(pipe[0], PAGE)
    assert read_until(pipe[0], "stuck") == ["stuck"]
    outlet.close()


def test_lines_without_a_reader_are_counted() -> None:
    """A pipe whose reader is gone takes nothing, and does not end the process."""
    reader, writer = os.pipe()
    os.close(reader)
    outlet = Outlet(writer)
    emit(outlet, "to nobody")
    outlet.flush()
    assert outlet.dropped == 1
    outlet.close()
    os.close(writer)
