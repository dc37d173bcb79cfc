"""A run's PostgreSQL leaves nothing behind, whoever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.deploy.clean import sweep
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import shared_segments, stat
from harness.deploy.lease import Lease
from harness.deploy.model import Database
from harness.deploy.postgres import find_program, start_postgres
from harness.deploy.spawner import Guardian
from harness.waiting import wait_for

pytestmark = pytest.mark.skipif(find_program("postgres") is None, reason="no PostgreSQL")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep leases and registry of these tests apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def memory() -> Iterator[list[list[str]]]:
    """Hold that the segments put in are gone: they would stay until the machine starts anew."""
    segments: list[list[str]] = []
    yield segments
    assert segments
    assert not [fields[:2] for fields in shared_segments() if fields[:2] in segments]


async def started(folder: Path, memory: list[list[str]]) -> tuple[Guardian, Database, list[int]]:
    """Start a server; return the pids of all its processes, too."""
    lease = Lease.acquire()
    host = f"{lease.subnet}.4"
    guardian = await Guardian.start(RunFolder.create(folder / "run"), lease)
    server = await start_postgres(guardian, host)
    assert server.process is not None
    first = psutil.Process(server.process.pid)
    others = first.children(recursive=True)
    assert len(others) >= 3
    lines = (server.directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    memory.append(lines[6].split())
    assert any((server.directory / "data" / "pg_dynshmem").iterdir())  # none in /dev/shm
    return guardian, server, [first.pid, *(each.pid for each in others)]


def gone(pids: list[int]) -> bool:
    """Tell whether none of the processes is left."""
    return all(stat(pid)[:1] in ([], ["Z"]) for pid in pids)


async def test_an_orderly_end_removes_processes_and_files(
    tmp_path: Path, memory: list[list[str]]
) -> None:
    """The files lie outside the run's folder, and go with the run."""
    guardian, server, pids = await started(tmp_path, memory)
    assert (server.directory / "data" / "PG_VERSION").is_file()
    await guardian.stop(grace=0.5)
    assert gone(pids)
    assert not server.directory.exists()


async def test_a_guardian_whose_harness_is_gone_removes_them(
    tmp_path: Path, memory: list[list[str]]
) -> None:
    """Its end of the line is all that it sees of a SIGKILL of the harness."""
    guardian, server, pids = await started(tmp_path, memory)
    guardian._writer.close()
    await wait_for(lambda: gone(pids), 10, "the processes end")
    await wait_for(lambda: not server.directory.exists(), 10, "the files are removed")
    await wait_for(lambda: guardian._program.poll() is not None, 10, "the guardian ends")
    await guardian.stop()


async def test_clean_removes_what_a_killed_guardian_left(
    tmp_path: Path, memory: list[list[str]]
) -> None:
    """A process of the server that a fault holds stopped lives on without it, but not for ever."""
    guardian, server, pids = await started(tmp_path, memory)
    os.kill(pids[1], signal.SIGSTOP)
    await wait_for(lambda: stat(pids[1])[0] == "T", 5, "one process is stopped")
    os.kill(guardian.pid, signal.SIGKILL)
    await wait_for(lambda: gone([pids[0], *pids[2:]]), 10, "the first process and the others end")
    assert not gone(pids)
    assert server.directory.exists()
    guardian._program.wait(5)
    done, ok = sweep()
    assert ok
    assert "run run: ended 1 processes, removed its data" in done
    assert gone(pids)
    assert not server.directory.exists()
    await guardian.stop()
