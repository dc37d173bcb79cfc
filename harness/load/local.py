"""A load process in a folder of its own, started and watched by a load machine."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import harness
from harness.deploy.folder import RunFolder
from harness.deploy.service import clean_environment
from harness.load.addresses import require_allowed
from harness.load.setup import (
    LoadSetup,
    ready_path,
    setup_path,
    start_path,
    status_path,
    write_start,
)

END_S = 5.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
MOST_LOG = 64 * 1024


class LocalLoad:
    """One load process; `new_history` and the like return what has come since they were asked."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._number = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._sent = 0
        self._ready = False

    def begin(
        self,
        allowed: frozenset[str],
        number: int,
        of: int,
        plan: bytes,
        accounts: bytes,
        setup: bytes,
    ) -> None:
        """Write the files of the run and start the process.

        Raises UserError when the load would go to a host that is neither loopback nor allowed.
        """
        self._number = number
        self._run.plan.write_bytes(plan)
        self._run.accounts.write_bytes(accounts)
        setup_path(self._run).write_bytes(setup)
        told = LoadSetup.read(self._run)
        entry = told.entry
        dialled = [*(entry.url(n) for n in range(len(entry.urls))), told.provider]
        require_allowed([url for url in dialled if url], allowed)
        module = [sys.executable, "-m", "harness.load.process"]
        numbers = ["--number", str(number), "--of", str(of)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # our own module
                [*module, "--run", str(self._run.root), *numbers],
                env=clean_environment(Path(harness.__file__).parents[1]),
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # no other thread here
            )

    def start(self, t0: float) -> None:
        """Give the process its second 0."""
        write_start(start_path(self._run), t0)

    @property
    def exit_status(self) -> int | None:
        """Return the process's exit status; None while it runs."""
        return self._process.poll() if self._process else None

    def newly_ready(self) -> bool:
        """Tell once that all sockets are connected."""
        first = not self._ready and ready_path(self._run, self._number).exists()
        self._ready = self._ready or first
        return first

    def status(self) -> bytes:
        """Return the status file; empty when there is none."""
        with contextlib.suppress(OSError):
            return status_path(self._run, self._number).read_bytes()
        return b""

    def new_history(self, most: int) -> bytes:
        """Return the next bytes of the history, at most `most`."""
        with contextlib.suppress(OSError), self._history.open("rb") as file:
            file.seek(self._sent)
            data = file.read(most)
            self._sent += len(data)
            return data
        return b""

    def log_text(self) -> str:
        """Return the end of the process's log."""
        return self._log.read_bytes()[-MOST_LOG:].decode(errors="replace")

    def end(self) -> None:
        """End the process; its history is flushed."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _log(self) -> Path:
        return self._run.logs / f"load-{self._number}.log"

    @property
    def _history(self) -> Path:
        return self._run.history / f"load-{self._number}.jsonl"


def _end_with_parent() -> None:
    """Have the kernel kill this process when the load machine's own process is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
