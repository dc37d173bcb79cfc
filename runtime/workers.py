"""`--workers N`: child processes that share one listening socket, started again when they die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import click

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
HEALTHY_S = 10.0
STOP_WITHIN_S = 15.0  # beside the time that running answers may take
POLL_S = 0.2
BACKLOG = 2048


class Workers:
    """The parent: it serves nothing itself."""

    def __init__(self, host: str, port: int, count: int, drain_s: float) -> None:
        self._socket = _listen(host, port)
        self._count = count
        self._stop_within = drain_s + STOP_WITHIN_S
        self._stopping = threading.Event()
        self._pause = FIRST_PAUSE_S
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT; return the exit code.

        They drain; a second signal ends them at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._children = children = [self._start() for _ in range(self._count)]
        began = [time.monotonic()] * self._count
        while not self._stopping.wait(POLL_S):
            for place, child in enumerate(children):
                if child.poll() is None:
                    continue
                self._wait_before_restart(child, time.monotonic() - began[place])
                children[place], began[place] = self._start(), time.monotonic()
        return _stop(children, self._stop_within)

    def _on_signal(self, *_: object) -> None:
        if self._stopping.is_set():
            for child in self._children:
                child.kill()
        self._stopping.set()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a worker by our own command line, with an instance id of its own."""
        base = os.environ.get("INSTANCE_ID", "")
        instance = f"{base}-{uuid.uuid4().hex[:8]}" if base else str(uuid.uuid4())
        number = self._socket.fileno()
        return subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:], "--fd", str(number)],
            env={**os.environ, "INSTANCE_ID": instance},
            pass_fds=[number],
            start_new_session=True,  # Ctrl-C reaches us; we tell them
        )

    def _wait_before_restart(self, child: subprocess.Popen[bytes], lived: float) -> None:
        log.warning("worker %d ended with %d; starting another", child.pid, child.returncode)
        self._pause = FIRST_PAUSE_S if lived > HEALTHY_S else min(self._pause * 2, LONGEST_PAUSE_S)
        self._stopping.wait(self._pause)


def _stop(children: list[subprocess.Popen[bytes]], within: float) -> int:
    """End all workers; return 1 when one did not end by itself with exit code 0."""
    for child in children:
        child.send_signal(signal.SIGTERM)
    until = time.monotonic() + within
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return int(any(child.returncode for child in children))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        raise click.UsageError(f"{host}:{port}: cannot listen: {error.strerror}") from None
    found.listen(BACKLOG)
    return found
