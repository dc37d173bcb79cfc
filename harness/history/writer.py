"""Append-only history files: one writer per process, readable after SIGKILL of that process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson

from harness.clock import RunClock

FLUSH_BYTES = 64 * 1024


class HistoryWriter:
    """Appends records to `<folder>/<source>.jsonl`.

    Lines gather in memory until `flush()` or 64 KiB; the owner flushes every 100 ms or so. Each
    flush is one `write` of whole lines to an O_APPEND descriptor, so a reader never sees more
    than the last line cut, and what was flushed survives SIGKILL.
    """

    def __init__(self, folder: Path, source: str, clock: RunClock) -> None:
        self.path = folder / f"{source}.jsonl"
        self.source = source
        self.clock = clock
        self._lines = bytearray()
        self._operations = 0
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.record(
            "header", source=source, base=clock.base, wall=time.time(), offset=0.0, error=0.0
        )
        self.flush()

    def record(self, k: str, t: float | None = None, **fields: Any) -> None:
        """Append one record; `t` defaults to now."""
        self._append({"t": self.clock.now() if t is None else t, "k": k, **fields})

    def invoke(self, op: str, **fields: Any) -> str:
        """Record that an operation is being sent; return its id."""
        self._operations += 1
        identity = f"{self.source}-{self._operations}"
        self._append({"t": self.clock.now(), "k": "invoke", "id": identity, "op": op, **fields})
        return identity

    def complete(self, outcome: str, identity: str, op: str, **fields: Any) -> None:
        """Record the outcome (`ok`, `fail` or `info`) of an operation."""
        self._append({"t": self.clock.now(), "k": outcome, "id": identity, "op": op, **fields})

    def _append(self, record: dict[str, Any]) -> None:
        # into one buffer: orjson's lines, kept one by one, would each hold on to a whole KiB
        self._lines += orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        if len(self._lines) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything gathered to the operating system."""
        data, self._lines = memoryview(self._lines), bytearray()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Flush and close; further records are an error."""
        self.flush()
        os.close(self._descriptor)
