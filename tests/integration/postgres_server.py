"""A PostgreSQL server of its own for a test, on a Unix socket in its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bus_servers import until

ACCOUNT = "postgres"  # the server refuses to run as root


def _program(name: str) -> str:
    """Return the path of a server program; skips the test when there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        pytest.skip(f"{name} of PostgreSQL is not installed")
    return found


def _account() -> dict[str, Any]:
    """Return how to start a program as somebody who is not root."""
    return {"user": ACCOUNT} if os.geteuid() == 0 else {}


def _prepare(data: Path, account: dict[str, Any]) -> None:
    """Make the folder, and let the account reach it: pytest's folders are closed to others."""
    data.mkdir()
    if account:
        shutil.chown(data, account["user"])
        for parent in data.parents:
            mode = parent.stat().st_mode
            if parent.stat().st_uid == 0 and not mode & 0o001:
                parent.chmod(mode | 0o011)


def start(data: Path) -> subprocess.Popen[bytes]:
    """Make a database cluster in a new folder and serve it."""
    account = _account()
    _prepare(data, account)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": data, **account}
    words = ["-D", str(data), "-U", "test", "-A", "trust", "--no-sync"]
    subprocess.run([_program("initdb"), *words], check=True, **quiet)
    settings = ["listen_addresses=", f"unix_socket_directories={data}", "fsync=off"]
    options = [word for setting in settings for word in ("-c", setting)]
    return subprocess.Popen([_program("postgres"), "-D", str(data), *options], **quiet)


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[str]:
    """Give the URL of a server that answers; it is gone afterwards."""
    data = folder / "pg"
    process = start(data)
    try:
        await until(lambda: _answers(data), 15)
        yield f"postgresql://test@/postgres?host={data}"
    finally:
        process.send_signal(signal.SIGQUIT)  # immediate: nothing is kept
        process.wait(15)


def _answers(data: Path) -> bool:
    with psycopg.connect(f"user=test dbname=postgres host={data}", connect_timeout=1):
        return True
