"""A private PostgreSQL server: a fresh cluster of data files, on an address of the run's own."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deploy.model import Process
from harness.deploy.service import log_tail
from harness.errors import MissingPart, UserError
from harness.waiting import WaitTimeout, wait_for

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

PORT = 5432
USER = "postgres"  # the account that serves when we are root, which PostgreSQL refuses to be
VERSIONS = Path("/usr/lib/postgresql")  # Debian keeps the programs off PATH
HEALTHY_S = 30.0
INIT_S = 60.0
SETTINGS = {
    "fsync": "off",  # nobody cuts the power of a test
    "unix_socket_directories": "",
    "max_connections": "100",
}


@dataclass
class Postgres:
    """A server that runs. `process` changes when it is started again."""

    host: str
    port: int
    directory: Path
    process: Process | None = None

    @property
    def url(self) -> str:
        """Return the URL of its database."""
        return f"postgresql://{USER}@{self.host}:{self.port}/{USER}"

    def remove(self) -> None:
        """Remove the data; call it when the guardian has ended the server."""
        shutil.rmtree(self.directory, ignore_errors=True)


async def start_postgres(guardian: Guardian, host: str, port: int = PORT) -> Postgres:
    """Make a cluster of data files and start a server on it; return when it answers.

    It trusts whoever reaches its loopback address. The files lie in the system's temporary
    folder, because another account has to reach them. Raises MissingPart without PostgreSQL,
    UserError with the end of its log when it does not start.
    """
    program("postgres")
    server = Postgres(host, port, Path(tempfile.mkdtemp(prefix="harness-postgres-")))
    try:
        await asyncio.to_thread(_initialise, server.directory)
        await launch(guardian, server)
    except BaseException:
        server.remove()
        raise
    return server


async def launch(guardian: Guardian, server: Postgres) -> None:
    """Start the server, for the first time or again, and wait until it answers."""
    options = {**SETTINGS, "listen_addresses": server.host, "port": str(server.port)}
    argv = [program("postgres"), "-D", str(server.directory / "data")]
    argv += [f"--{name}={value}" for name, value in options.items()]
    server.process = await guardian.spawn(
        "postgres", [*as_its_user(), *argv], _environment(), Path("/"), last=True
    )
    ask = [program("pg_isready"), "-q", "-h", server.host, "-p", str(server.port)]
    try:
        state: str = await wait_for(lambda: _state(server, ask), HEALTHY_S, "postgres answers")
    except WaitTimeout as error:
        raise UserError(f"{error}\n{log_tail(server.process.log)}") from error
    if state == "ended":
        raise UserError(
            f"postgres ended at start with status {server.process.exit_status}; expected it to "
            f"listen on {server.host}:{server.port}\n{log_tail(server.process.log)}"
        )


async def _state(server: Postgres, ask: list[str]) -> str:
    if server.process is not None and server.process.exit_status is not None:
        return "ended"
    asking = await asyncio.create_subprocess_exec(*ask)
    return "" if await asking.wait() else "answers"


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, the newest; raise MissingPart."""
    if found := shutil.which(name):
        return found
    places = [path for path in VERSIONS.glob(f"*/bin/{name}") if os.access(path, os.X_OK)]
    if not places:
        raise MissingPart(f"{name} is not installed: run `make setup`, or install `postgresql`")
    return str(max(places, key=_version))


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", path.parts[-3]))


def as_its_user() -> list[str]:
    """Return the words before a command that PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _initialise(directory: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(directory, USER)
    words = [program("initdb"), "-D", str(directory / "data"), "-U", USER, "--auth=trust"]
    words += ["--no-sync", "--encoding=UTF8", "--no-locale"]
    done = subprocess.run(
        [*as_its_user(), *words],
        env=_environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=INIT_S,
    )
    if done.returncode:
        raise UserError(f"initdb ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
