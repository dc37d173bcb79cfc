"""Redis servers as plain processes: the host that needs nothing but redis-server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deploy import redis_files as files
from harness.deploy.model import Boxed, Node, Process
from harness.deploy.spawner import find_program

if TYPE_CHECKING:
    from harness.deploy.spawner import Guardian

PROGRAM = "redis-server"
PORTS = {"redis": 6379, "sentinel": 26379}
NONSENSE = "port none"
TRIAL = f"tls-replication yes\n{NONSENSE}\n"
FIRST = {"redis": 10, "sentinel": 30}  # redis-0 is 127.x.y.10


class ProcessHost:
    """Starts each server as a child of the guardian, at an address of its own."""

    name = "processes"

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian

    @property
    def version(self) -> str:
        """Return the installed server's version."""
        return server_version()

    def node(self, subnet: str, kind: str, number: int, directory: Path) -> Node:
        """Return a node at 127.x.y.(10 + number), a sentinel at 127.x.y.(30 + number)."""
        address = f"{subnet}.{FIRST[kind] + number}"
        return Node(f"{kind}-{number}", kind, address, PORTS[kind], directory)

    async def prepare(self, nodes: Sequence[Node]) -> None:  # noqa: ARG002 - another host needs them
        """Raise MissingPart without redis-server."""
        find_program(PROGRAM, os.environ)

    async def launch(self, node: Node) -> Process:
        """Start the server; last to be ended, by SIGKILL."""
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        # SIGTERM is refused while a first append-only file is being written.
        return await self._guardian.spawn(
            node.name, [PROGRAM, *arguments(node)], environment, node.directory, last=True
        )

    def boxed(self, image: str | None) -> Boxed | None:  # noqa: ARG002 - of containers alone
        """Return None: every other part is a process too."""
        return None

    async def close(self) -> None:
        """Nothing to do: the guardian ends its children."""


def arguments(node: Node) -> list[str]:
    """Return a server's command line after the program's name."""
    words = [str(node.directory / files.CONFIG)]
    return [*words, "--sentinel"] if node.kind == "sentinel" else words


@lru_cache(maxsize=1)
def server_version() -> str:
    """Return redis-server's version, like 7.0.15; raise MissingPart without redis-server."""
    path = find_program(PROGRAM, os.environ)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return parse_version(done.stdout)


@lru_cache(maxsize=1)
def speaks_tls() -> bool:
    """Tell whether redis-server was built with TLS; raise MissingPart without redis-server."""
    words = [find_program(PROGRAM, os.environ), "-"]  # it reads its settings, and is to refuse one
    done = subprocess.run(words, input=TRIAL, capture_output=True, text=True, check=False)
    return refuses_nonsense(done.stderr)


def refuses_nonsense(text: str) -> bool:
    """Tell whether a server refused TRIAL for its second line, so it knows the first."""
    return f">>> '{NONSENSE}'" in text


def parse_version(text: str) -> str:
    """Return the number in what a server prints with --version."""
    found = re.search(r"\bv=(\S+)", text)
    return found[1] if found else "unknown"
