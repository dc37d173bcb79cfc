"""One load machine as its master sees it: what it sends becomes files of the run."""

from __future__ import annotations

import os

from harness.deploy.folder import RunFolder
from harness.files import write_whole
from harness.load.offset import Offset, with_offset
from harness.load.setup import ready_path, status_path


class Machine:
    """Writes ready file, status file, history and log of the load process of another machine."""

    def __init__(self, run: RunFolder, number: int, name: str) -> None:
        self._run = run
        self.number = number
        self.name = name
        self.offset = Offset(0.0, float("inf"))
        self.exit_status: int | None = None
        self.lost = False
        self._path = run.history / f"load-{number}.jsonl"
        self._head = b""  # the header, until it is whole
        self._file = -1

    @property
    def over(self) -> bool:
        """Tell whether its load process has ended and everything of it is here."""
        return self.exit_status is not None

    @property
    def well(self) -> bool:
        """Tell whether its load process ended as it should."""
        return self.exit_status == 0 and not self.lost

    def ready(self) -> None:
        """Note that its sockets are connected."""
        ready_path(self._run, self.number).touch()

    def status(self, status: bytes) -> None:
        """Keep what its load process last reported."""
        write_whole(status_path(self._run, self.number), status)

    def history(self, data: bytes) -> None:
        """Append the next bytes of its history; the header says how well its clock is known."""
        if self._file < 0:
            head, newline, rest = (self._head + data).partition(b"\n")
            if not newline:
                self._head = head
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o644)
            data = with_offset(head, Offset(0.0, self.offset.error)) + rest
        os.write(self._file, data)

    def ended(self, status: int, log: str) -> None:
        """Note that its load process has ended; this is the last that it sends."""
        self.exit_status = status
        (self._run.logs / f"load-{self.number}.log").write_text(log, encoding="utf-8")

    def lose(self) -> None:
        """Note that it sends no heartbeats any more: what is here is all there will be."""
        if not self.lost:
            self.lost = True
            print(f"load-{self.number} ({self.name}) is lost: no heartbeat", flush=True)

    def close(self, final: Offset) -> None:
        """Close the history; correct its header by the drift that a last measurement shows."""
        if self._file < 0:
            return
        os.close(self._file)
        self._file = -1
        if final.error == float("inf"):
            return
        head, _, rest = self._path.read_bytes().partition(b"\n")
        write_whole(self._path, with_offset(head, self.offset.drifted(final)) + rest)
