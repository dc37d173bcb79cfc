"""A private PostgreSQL server: a fresh cluster of data files, on an address of the run's own."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deploy.model import Database
from harness.deploy.service import log_tail
from harness.errors import MissingPart, UserError
from harness.waiting import WaitTimeout, wait_for

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

PORT = 5432
NAME = "postgres"
USER = "postgres"  # the account that serves when we are root, which PostgreSQL refuses to be
VERSIONS = Path("/usr/lib/postgresql")  # Debian keeps the programs off PATH
REMEDY = "run `make setup`, or `apt-get install postgresql`"
NO_POSTGRES = f"it needs PostgreSQL, and `postgres` was not found; {REMEDY}"
HEALTHY_S = 30.0
INIT_S = 60.0
SETTINGS = {
    "fsync": "off",  # nobody cuts the power of a test
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that it goes with it
}


async def start_postgres(
    guardian: Guardian, host: str, port: int = PORT, connections: int = 100
) -> Database:
    """Make a cluster of data files and start a server on it; return when it answers.

    It trusts whoever reaches its loopback address, and takes so many `connections` at most. The
    files lie in the system's temporary folder, because another account has to reach them; the
    guardian removes them. Raises MissingPart without PostgreSQL, UserError with the end of its
    log when it does not start.
    """
    folder = Path(tempfile.gettempdir()) / f"harness-postgres-{uuid.uuid4().hex[:12]}"
    server = Database(host, port, folder, version=_version(program("postgres")))
    server.connections = connections
    guardian.owns(folder)
    _make(folder)
    await _initialise(guardian, folder)
    await launch(guardian, server)
    return server


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, USER)


async def _initialise(guardian: Guardian, folder: Path) -> None:
    """Make the data files; raise UserError with the program's words when that fails."""
    words = [program("initdb"), "-D", str(folder / "data"), "-U", USER, "--auth=trust"]
    words += ["--no-sync", "--encoding=UTF8", "--no-locale"]
    process = await guardian.spawn("initdb", [*as_its_user(), *words], _environment(), folder)
    try:
        status = await process.wait(INIT_S)
    except WaitTimeout as error:
        raise UserError(str(error)) from error
    guardian.dismiss(process)
    if status:
        raise UserError(f"initdb ended with {status}: {log_tail(process.log)}")


async def launch(guardian: Guardian, server: Database) -> None:
    """Start the server, for the first time or again, and wait until it answers."""
    options = {
        **SETTINGS,
        "listen_addresses": server.host,
        "port": str(server.port),
        "max_connections": str(server.connections),
    }
    argv = [program("postgres"), "-D", str(server.directory / "data")]
    argv += [f"--{name}={value}" for name, value in options.items()]
    server.process = await guardian.spawn(
        NAME, [*as_its_user(), *argv], _environment(), server.directory, last=True
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


async def _state(server: Database, ask: list[str]) -> str:
    if server.process is not None and server.process.exit_status is not None:
        return "ended"
    asking = await asyncio.create_subprocess_exec(*ask)
    return "" if await asking.wait() else "answers"


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, the newest; raise MissingPart."""
    if (found := find_program(name)) is None:
        raise MissingPart(f"{name} is not installed: {REMEDY}")
    return found


def find_program(name: str) -> str | None:
    """Return the same; None when it is missing."""
    if found := shutil.which(name):
        return found
    places = [path for path in VERSIONS.glob(f"*/bin/{name}") if os.access(path, os.X_OK)]
    return str(max(places, key=_folder_version)) if places else None


def _folder_version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", path.parts[-3]))


def _version(server: str) -> str:
    """Return the version, such as 15.14, as the program tells it."""
    done = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d[\d.]*", done.stdout)
    return found[0] if found else "of unknown version"


def as_its_user() -> list[str]:
    """Return the words before a command that PostgreSQL refuses to run as root.

    The kernel forgets the parent-death signal with the change of user, so it is set once more.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(USER)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--pdeathsig=KILL"]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
