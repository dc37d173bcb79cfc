"""Append-only history files: one writer per process, readable after SIGKILL of that process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

from harness.clock import RunClock
from harness.history.append import Appender

BLOCK_BYTES = 64 * 1024


class HistoryWriter:
    """Appends records to `<folder>/<source>.jsonl`.

    Lines gather in memory until `pass_on()` or 64 KiB; the owner passes them on every 100 ms or
    so, to a thread that writes them: recording never waits for the disk. Each block is one `write`
    of whole lines to an O_APPEND descriptor, so a reader never sees more than the last line cut,
    and what was written survives SIGKILL.
    """

    def __init__(self, folder: Path, source: str, clock: RunClock) -> None:
        self.path = folder / f"{source}.jsonl"
        self.source = source
        self.clock = clock
        self._lines = bytearray()
        self._operations = 0
        self._file = Appender(self.path)
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
        if len(self._lines) >= BLOCK_BYTES:
            self.pass_on()

    def pass_on(self) -> None:
        """Let everything gathered be written soon; never blocks.

        Raises the OSError of an earlier write that failed.
        """
        block, self._lines = self._lines, bytearray()
        self._file.append(block)

    def flush(self) -> None:
        """Return once everything recorded is with the operating system, so survives SIGKILL."""
        self.pass_on()
        self._file.drain()

    def close(self) -> None:
        """Flush and close; further records are an error."""
        self.pass_on()
        self._file.close()
