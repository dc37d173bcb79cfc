"""Log lines leave by a thread of their own: a reader that stands still holds up no request.

A worker's stderr is a pipe to a container engine or to a service manager, or a file. When its
reader hangs or its disk stalls, a write blocks; on the event loop that would stop every user of the
worker, and at its end the process itself.
"""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue

MOST_LINES = 5000  # in wait; with a traceback each that would be some 20 MB
FLUSH_WITHIN_S = 1.0
STDERR = 2


class Outlet(logging.Handler):
    """Formats a record where it was logged; a thread writes the line to a descriptor.

    New lines are dropped and counted while `most` are in wait, and those that cannot be written;
    how many, a line says as soon as one is written again. Not logging's own QueueListener: that one
    formats outside the trace, complains about a full queue on stderr itself, and waits for ever at
    the end.
    """

    def __init__(self, descriptor: int = STDERR, most: int = MOST_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most
        # its put may be interrupted by a signal's handler that logs, unlike that of queue.Queue
        self._lines: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._refused = self._unwritten = self._told = 0
        threading.Thread(target=self._write_all, name="log lines", daemon=True).start()

    @property
    def dropped(self) -> int:
        """Return how many lines were given up."""
        return self._refused + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record's line over; never waits."""
        try:
            line = self.format(record)
        except Exception:  # as all handlers do
            self.handleError(record)
            return
        if self._lines.qsize() >= self._most:
            self._refused += 1
        else:
            self._lines.put(line)

    def flush(self) -> None:
        """Return once what was logged is written, or after a second."""
        reached = threading.Event()
        self._lines.put(reached)
        reached.wait(FLUSH_WITHIN_S)

    def close(self) -> None:
        """Have the thread end once it has written what is in wait."""
        self._lines.put(None)
        super().close()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
            elif self._write(line):
                self._tell_dropped()
            else:
                self._unwritten += 1

    def _write(self, line: str) -> bool:
        """Write a line; False when nobody takes it: the reader is gone, the disk is full."""
        # past Python's own buffer, whose lock would keep a process from ending while this blocks
        data = memoryview(f"{line}\n".encode(errors="backslashreplace"))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return False
        return True

    def _tell_dropped(self) -> None:
        if (dropped := self.dropped) == self._told:
            return
        said = f"{dropped - self._told} log lines were dropped: nobody took them in time"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, (), None)
        if self._write(self.format(record)):
            self._told = dropped


def dropped_lines() -> int:
    """Return how many log lines of this process were given up."""
    return sum(outlet.dropped for outlet in _outlets())


def flush_lines() -> None:
    """Return once what this process logged is written, or after a second."""
    for outlet in _outlets():
        outlet.flush()


def _outlets() -> list[Outlet]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, Outlet)]
