"""Files that several processes read and write: whole or not at all, and one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

_RECORD = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def write_record(path: Path, data: dict[str, Any]) -> None:
    """Write a record that is kept under version control: indented, its keys sorted."""
    write_whole(path, orjson.dumps(data, option=_RECORD))


def read_record(path: Path, key: str) -> list[dict[str, Any]]:
    """Return what a record lists under a key; nothing when nothing was recorded yet."""
    if not path.exists():
        return []
    listed: list[dict[str, Any]] = orjson.loads(path.read_bytes())[key]
    return listed


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from a file that is read, changed and written; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
