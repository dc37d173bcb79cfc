"""Ends what dead runs left behind. A run whose guardian lives is never touched.

A guardian cleans up after its harness by itself. What is left here is a guardian that was killed
too: its children died with it, their own children and the run's containers did not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.deploy import sweeper, undo
from harness.deploy.folder import RunFolder
from harness.deploy.guardian import remove_made, started, stat
from harness.deploy.lease import cache_folder, free_stale
from harness.deploy.spawner import registry_folder
from harness.errors import MissingPart
from harness.waiting import WaitTimeout, wait_for_sync

SESSION = 3  # fields of /proc/PID/stat, counted from the state
DEATH_S = 5.0


@dataclass(frozen=True)
class Entry:
    """A run's file in the registry."""

    path: Path
    guardian: int
    started: int
    folder: Path
    children: frozenset[int]
    made: tuple[Path, ...] = ()  # folders outside the run's

    @classmethod
    def read(cls, path: Path) -> Entry | None:
        """Read it; None when it is gone or its first line was never written."""
        try:
            lines = [json.loads(line) for line in _whole_lines(path)]
        except OSError:
            return None
        if not lines:
            return None
        head: dict[str, Any] = lines[0]
        children = frozenset(line["pid"] for line in lines[1:] if "pid" in line)
        made = tuple(Path(line["made"]) for line in lines[1:] if "made" in line)
        return cls(path, head["guardian"], head["started"], Path(head["folder"]), children, made)

    @property
    def alive(self) -> bool:
        """Tell whether its guardian lives: pid and start are those of the entry."""
        dead = stat(self.guardian)[:1] == ["Z"]  # killed, and nobody collects it
        return not dead and started(self.guardian) == self.started

    def left(self) -> Iterator[int]:
        """Yield the living processes of the run.

        Each child led a session, which its offspring shares. As numbers are used again, a process
        must also work in the run's folder. In a folder that was made for the run nobody else works.
        """
        for pid in _pids():
            fields = stat(pid)
            if not fields or fields[0] == "Z":
                continue
            of_run = int(fields[SESSION]) in self.children and _works_in(pid, self.folder)
            if of_run or any(_works_in(pid, folder) for folder in self.made):
                yield pid


def clean() -> int:
    """Clean up and say what was done; return exit code 0, or 1 when something would not go."""
    done, ok = sweep()
    print("\n".join(done) or "nothing was left behind")
    return 0 if ok else 1


def sweep() -> tuple[list[str], bool]:
    """End leftovers of dead runs and free their leases; return what was done, and if all went."""
    done, ok = [], True
    for path in sorted(registry_folder().glob("*.jsonl")):
        entry = Entry.read(path)
        if entry is None or entry.alive:
            continue
        sentence, ended = _end(entry)
        done.append(sentence)
        ok = ok and ended
    removed, gone = _containers()
    done += removed
    freed = free_stale(cache_folder() / "subnets")
    done += [f"freed the lease of {subnet}.0/24" for subnet in freed]
    return done, ok and gone


def _containers() -> tuple[list[str], bool]:
    """Remove the containers of dead guardians; nothing to do where no engine answers."""
    from harness.deploy import engine

    try:
        path = engine.socket_path()
        found = sweeper.containers(path, sweeper.OWNER)
    except (MissingPart, OSError):
        return [], True
    orphans = [each for each in found if _is_orphan(each["Labels"][sweeper.OWNER])]
    runs = Counter(each["Labels"][sweeper.RUN] for each in orphans)
    try:
        for owner in {each["Labels"][sweeper.OWNER] for each in orphans}:
            sweeper.sweep(path, f"{sweeper.OWNER}={owner}")
    except OSError as error:
        return [f"containers: {error}"], False
    return [f"run {Path(run).name}: removed {runs[run]} containers" for run in sorted(runs)], True


def _is_orphan(owner: str) -> bool:
    """Tell whether a guardian is dead; of another pid namespace it cannot be told from here."""
    namespace, pid, since = owner.split("-")
    dead = stat(int(pid))[:1] == ["Z"] or started(int(pid)) != int(since)
    return namespace == sweeper.namespace() and dead


def _end(entry: Entry) -> tuple[str, bool]:
    """SIGKILL what is left of a dead run, remove its data and its entry."""
    name, ended = entry.folder.name, set[int]()

    def gone() -> bool:
        left = set(entry.left())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(left)
        return not left

    try:
        wait_for_sync(gone, DEATH_S, f"processes of {name} end")
    except WaitTimeout as error:
        return f"run {name}: {error}; pids {sorted(ended)}", False
    run = RunFolder(entry.folder)
    undone = undo.take_back(run.undo) if run.undo.exists() else []
    shutil.rmtree(run.data, ignore_errors=True)
    for folder in entry.made:
        remove_made(folder)
    entry.path.unlink(missing_ok=True)
    said = [f"ended {len(ended)} processes, removed its data", *undone]
    return f"run {name}: {'; '.join(said)}", True


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that were written to their end."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _works_in(pid: int, folder: Path) -> bool:
    """Tell whether the process has its working directory or an open file in the folder."""
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        links = [process / "cwd", *(process / "fd").iterdir()]
        return any(_target(link).is_relative_to(folder) for link in links)
    return False  # gone, or another user's


def _target(link: Path) -> Path:
    try:
        return Path(os.readlink(link))  # noqa: PTH115 - may be a socket's name
    except OSError:
        return Path()
