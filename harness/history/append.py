"""Appending to a file from a thread of its own: a slow disk never holds up who records.

A `write` can block for seconds while the file system commits its journal. In a load process it
would hold up every user, and the load's own lateness would void the run.
"""

from __future__ import annotations

import _thread
import os
import sys
from _queue import SimpleQueue  # queue.SimpleQueue is gevent's in a load process
from collections.abc import Callable
from enum import Enum
from pathlib import Path


class _Mark(Enum):
    DRAIN = "say when you come here"
    END = "say so, and end"


class Appender:
    """Writes blocks to the end of a file, in order; what was written survives SIGKILL.

    Blocks wait in memory as long as the disk does not take them. A failed write (a full disk) is
    raised by the owner's next call; blocks after it are dropped, so that no hole hides in a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._blocks: SimpleQueue[bytearray | _Mark] = SimpleQueue()
        self._reached: SimpleQueue[_Mark] = SimpleQueue()
        self._error: OSError | None = None
        _start_thread(self._run)

    def append(self, block: bytearray) -> None:
        """Hand over a block, which the caller must not change afterwards. Never blocks."""
        self._raise()
        self._blocks.put(block)

    def drain(self) -> None:
        """Return once everything handed over is with the operating system."""
        self._await(_Mark.DRAIN)

    def close(self) -> None:
        """Drain, end the thread and close the file."""
        try:
            self._await(_Mark.END)
        finally:
            os.close(self._descriptor)

    def _await(self, mark: _Mark) -> None:
        self._blocks.put(mark)
        self._reached.get()
        self._raise()

    def _run(self) -> None:
        while True:
            block = self._blocks.get()
            if isinstance(block, _Mark):
                self._reached.put(block)
                if block is _Mark.END:
                    return
            elif self._error is None:
                self._write(memoryview(block))

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            error.filename = str(self._path)  # a write alone does not know it
            self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _start_thread(run: Callable[[], None]) -> None:
    """Start a thread of the system, also where gevent has put greenlets in their place."""
    monkey = sys.modules.get("gevent.monkey")
    original = monkey.get_original("_thread", "start_new_thread") if monkey else None
    (original or _thread.start_new_thread)(run, ())
