"""The Toxiproxy server: found, started under the guardian, and spoken to by toxiproxy-python."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import toxiproxy.api
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from harness.deploy.lease import cache_folder
from harness.deploy.service import log_tail
from harness.errors import MissingPart, UserError
from harness.waiting import wait_for_sync

if TYPE_CHECKING:
    from harness.deploy.model import Boxed, Deployment, Process
    from harness.deploy.spawner import Guardian

T = TypeVar("T")

NAME = "toxiproxy"
PORT = 8474
ENVIRONMENT = {"LOG_LEVEL": "error"}
READY_S = 15.0
ANSWER_S = 2.0
PROGRAMS = ("toxiproxy-server", "toxiproxy")
MISSING = (
    "Toxiproxy is missing: expected `toxiproxy-server` on PATH or in {cache}. "
    "`make setup` installs it; without it workers dial Redis directly and the scenarios that "
    "need network faults are skipped"
)


class _Session(requests.Session):
    """One kept connection, deadlines, and no proxy from the environment (loopback only).

    toxiproxy-python opens a connection per call, waits for ever and honours HTTP_PROXY.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def request(self, method: str, url: str, *args: Any, **options: Any) -> requests.Response:  # type: ignore[override]  # same call, fewer names
        """Send one request with a deadline."""
        options.setdefault("timeout", ANSWER_S)
        return super().request(method, url, *args, **options)


class Control:
    """A Toxiproxy server's API. The library keeps its address in a class, hence the lock."""

    _lock = threading.Lock()

    def __init__(self, host: str, port: int = PORT) -> None:
        self.host = host
        self.port = port
        self._session = _Session()

    def close(self) -> None:
        """Drop the kept connection."""
        self._session.close()

    def call(self, work: Callable[[type[APIConsumer]], T]) -> T:
        """Run `work` with the library pointed at this server; blocks, so call it in a thread."""
        with Control._lock:
            toxiproxy.api.requests = self._session
            Toxiproxy().update_api_consumer(self.host, self.port)
            return work(APIConsumer)


def cached_binary() -> Path:
    """Return where `make setup` puts the server."""
    return cache_folder() / "bin" / "toxiproxy-server"


def find_toxiproxy() -> Path | None:
    """Return the server's binary: on PATH, else in the cache; None when there is none."""
    for program in PROGRAMS:
        if found := shutil.which(program):
            return Path(found)
    cached = cached_binary()
    return cached if os.access(cached, os.X_OK) else None


async def start_toxiproxy(
    guardian: Guardian, deployment: Deployment, boxed: Boxed | None = None
) -> None:
    """Start the server on the run's 127.x.y.2 and set `deployment.toxiproxy_url`.

    Raises MissingPart without the binary, UserError when the server does not come up.
    """
    host = f"{deployment.subnet}.2"
    program = _binary() if boxed is None else ""
    _must_be_free(host)  # else another run's server would answer for ours
    words = ["-host", host, "-port", str(PORT)]
    process: Process
    if boxed is None:
        process = await guardian.spawn(NAME, [program, *words], ENVIRONMENT, last=True)
    else:
        process = await boxed.launch(NAME, words, environment=ENVIRONMENT)
    await asyncio.to_thread(_wait_ready, process, host)
    deployment.toxiproxy_url = f"http://{host}:{PORT}"


def _binary() -> str:
    if (found := find_toxiproxy()) is None:
        raise MissingPart(MISSING.format(cache=cached_binary().parent))
    return str(found)


def _must_be_free(host: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, PORT))
        except OSError as error:
            raise UserError(
                f"Toxiproxy needs {host}:{PORT}, and it cannot be had: {error.strerror}. "
                "`harness clean` ends what earlier runs left; `ss -ltnp` shows who listens there"
            ) from error


def _wait_ready(process: Process, host: str) -> None:
    control = Control(host)

    def state() -> str | None:
        if process.exit_status is not None:
            return "died"
        control.call(lambda api: api.get("/version"))
        return "ready"

    try:
        outcome = wait_for_sync(state, READY_S, f"Toxiproxy on {host}:{PORT}")
    finally:
        control.close()
    if outcome == "died":
        raise UserError(
            f"Toxiproxy ended with status {process.exit_status} instead of listening on "
            f"{host}:{PORT}. {log_tail(process.log)}"
        )
