"""Runs the official JavaScript client as a process and hears what it says."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.deploy.lease import cache_folder

HERE = Path(__file__).parent
PACKAGE = ("package.json", "package-lock.json")
SCRIPT = "client.mjs"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
INSTALL_S = 90


def installed() -> Path:
    """Return a folder with the client and its locked packages, installed once per lock file.

    Skips the test when node or npm is missing, or the packages cannot be reached.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing; install Node.js 18 or newer")
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PACKAGE))
    folder = cache_folder() / f"interop-{digest.hexdigest()[:16]}"
    if not folder.exists():
        _install(folder)
    shutil.copy(HERE / SCRIPT, folder)  # Node looks for packages beside the script
    return folder


def _install(folder: Path) -> None:
    """Install beside it and rename: another run sees all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        for name in PACKAGE:
            shutil.copy(HERE / name, made)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=made, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if any(code in done.stderr for code in NO_NETWORK):
            pytest.skip(f"npm ci cannot reach its registry: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, f"npm ci: {done.stderr}"
        if not folder.exists():
            made.rename(folder)


class NodeClient:
    """One client; `said` holds what it told, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = process
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.said.append(orjson.loads(line))

    def times(self, what: str) -> int:
        """Return how often it told something."""
        return sum(each["what"] == what for each in self.said)

    def last(self, what: str) -> dict[str, Any]:
        """Return what it told last of a kind; raise IndexError when it never did."""
        return [each for each in self.said if each["what"] == what][-1]

    def events(self, kind: str) -> list[Any]:
        """Return the data of the `events` of a type."""
        heard = [each["event"]["data"] for each in self.said if each["what"] == "event"]
        return [data["data"] for data in heard if data["type"] == kind]

    def text(self) -> str:
        """Return the text of an answer, as far as heard."""
        return "".join(data["delta"] for data in self.events("response:completion"))

    async def close(self) -> str:
        """Let it disconnect and end; return what it complained of."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        complaints = await asyncio.wait_for(self._process.stderr.read(), 5)
        await self._process.wait()
        await self._reader
        return complaints.decode()


@asynccontextmanager
async def node_client(url: str, token: str) -> AsyncIterator[NodeClient]:
    """Run a client that connects to a worker with a token; a complaint fails the test."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(installed() / SCRIPT), stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 22
    )
    client = NodeClient(process)
    try:
        assert process.stdin is not None
        process.stdin.write(orjson.dumps({"url": url, "token": token}) + b"\n")
        yield client
        assert await client.close() == ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
