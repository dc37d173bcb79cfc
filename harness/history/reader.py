"""Reads a run's history: all files merged by time, streamed, never all in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import orjson

from harness.history.records import COMPLETIONS, Record

CHUNK = 8192  # records of one file that are sorted together: some carry the time of their end
_TIME = itemgetter("t")
_TIMES = ("t", "t0", "scheduled")


class HistoryError(Exception):
    """A history file is unreadable; says file, line and what was expected."""


def read_history(folder: Path) -> Iterator[Record]:
    """Yield the records of every `*.jsonl` file by time, headers included.

    Each file is nearly sorted; a record that is late by less than half a chunk is put in its
    place. The last line may be cut (its writer was killed); any other damage is HistoryError.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise HistoryError(f"{folder}: expected history files (*.jsonl), found none")
    return heapq.merge(*map(read_file, paths), key=_TIME)


def read_file(path: Path) -> Iterator[Record]:
    """Yield the records of one file by time, its header first; raise HistoryError."""
    return _sorted(_lines(path))


def _sorted(records: Iterator[Record]) -> Iterator[Record]:
    """Sort a nearly sorted stream, half a chunk behind its newest record."""
    held: list[Record] = []
    for record in records:
        held.append(record)
        if len(held) >= CHUNK:
            held.sort(key=_TIME)
            yield from held[: CHUNK // 2]
            del held[: CHUNK // 2]
    held.sort(key=_TIME)
    yield from held


def _lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        header = _header(path, file.readline())
        if header is None:
            return
        yield header
        records = _records(path, file)
        if offset := header.get("offset"):
            records = (_moved(record, offset) for record in records)
        yield from records


def _moved(record: Record, offset: float) -> Record:
    """Return the record with every time in it moved by `offset` seconds."""
    names = [*_TIMES, *(("sent",) if record["k"] in COMPLETIONS else ())]
    return record | {name: record[name] + offset for name in names if name in record}


def _header(path: Path, line: bytes) -> Record | None:
    """Return the header; None when its writer was killed before it was whole."""
    if not line.endswith(b"\n"):
        return None
    header = _parse(path, 1, line)
    if header["k"] != "header" or "source" not in header:
        raise HistoryError(f"{path}:1: expected a header record, got {line[:80]!r}")
    return header


def _records(path: Path, file: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(file, 2):
        if not line.endswith(b"\n"):
            return  # cut: whoever wrote it was killed
        try:  # the quick way: a million lines take seconds
            record: Record = orjson.loads(line)
            whole = type(record["t"]) is float and record["k"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            whole = False
        yield record if whole else _parse(path, number, line)


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        record: Record = orjson.loads(line)
        if type(record["t"]) in (float, int) and record["k"]:
            return record
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    raise HistoryError(
        f"{path.parent.name}/{path.name}:{number}: expected one JSON object with `t` and `k`, "
        f"got {line[:80]!r}"
    )
