"""Recording goes on while the disk does not take what was written; nothing is lost or reordered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from harness.clock import RunClock
from harness.history.writer import HistoryWriter

RECORDS = 4000  # far more than a pipe takes
IN_GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from pathlib import Path
from harness.clock import RunClock
from harness.history.writer import HistoryWriter

writer, beats = HistoryWriter(Path(sys.argv[1]), "load-0", RunClock()), []
ticker = gevent.spawn(lambda: [(gevent.sleep(0.001), beats.append(1)) for _ in range(50)])
for number in range(int(sys.argv[2])):
    writer.record("note", number=number)
writer.pass_on()
ticker.join()
print(len(beats), flush=True)
writer.close()
"""


@contextmanager
def stuck_disk(path: Path) -> Iterator[int]:
    """Put a pipe where the history goes: it takes 64 KiB, then blocks until somebody reads."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


def read_all(reader: int) -> list[int]:
    """Return the numbers recorded, in the order of the file, until its writer closes it."""
    os.set_blocking(reader, True)
    lines = b"".join(iter(lambda: os.read(reader, 1 << 16), b"")).splitlines()
    return [record["number"] for record in map(orjson.loads, lines) if record["k"] == "note"]


def read_until_closed(reader: int, writer: HistoryWriter) -> list[int]:
    """Close the writer beside the reading; it waits for the last line to be taken."""
    closing = threading.Thread(target=writer.close)
    closing.start()
    numbers = read_all(reader)
    closing.join()
    return numbers


def test_recording_never_waits_for_the_disk(tmp_path: Path) -> None:
    """All records are taken while the pipe is full; every one comes, in order, once it is read."""
    with stuck_disk(tmp_path / "harness.jsonl") as reader:
        writer = HistoryWriter(tmp_path, "harness", RunClock())
        for number in range(RECORDS):
            writer.record("note", number=number)
        writer.pass_on()
        assert read_until_closed(reader, writer) == list(range(RECORDS))


def test_greenlets_go_on_while_the_disk_is_stuck(tmp_path: Path) -> None:
    """In a load process the thread is a real one: a greenlet that wrote would stop the others."""
    with stuck_disk(tmp_path / "load-0.jsonl") as reader:
        command = [sys.executable, "-c", IN_GREENLETS, str(tmp_path), str(RECORDS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            beats = process.stdout.readline()  # comes before anything was read from the pipe
            assert (beats, read_all(reader)) == (b"50\n", list(range(RECORDS)))


def test_flushed_records_are_in_the_file(tmp_path: Path) -> None:
    """After `flush` a reader sees all: it returns when they are with the operating system."""
    writer = HistoryWriter(tmp_path, "harness", RunClock())
    for number in range(RECORDS):
        writer.record("note", number=number)
    writer.flush()
    assert len(writer.path.read_bytes().splitlines()) == 1 + RECORDS
    writer.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """A write that fails is raised to the owner: a history with a hole must not look whole."""
    (tmp_path / "harness.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        HistoryWriter(tmp_path, "harness", RunClock())
    assert caught.value.filename == str(tmp_path / "harness.jsonl")
