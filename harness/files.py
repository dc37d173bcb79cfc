"""Files that several processes read and write: whole or not at all, and one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from harness.errors import UserError

_RECORD = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def write_record(path: Path, data: dict[str, Any]) -> None:
    """Write a record that is kept under version control: indented, its keys sorted."""
    write_whole(path, orjson.dumps(data, option=_RECORD))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from a file that is read, changed and written; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_between(page: Path, marks: tuple[str, str], text: str) -> bool:
    """Put text between two marks of a page; return whether that changed it."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise UserError(f"{page}: expected the marks {marks[0]} and {marks[1]}, to write between")
    new = f"{before}{begin}\n{text}\n{end}{after}"
    if new == old:
        return False
    write_whole(page, new.encode())
    return True
