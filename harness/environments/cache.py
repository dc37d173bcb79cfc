"""Folders of the cache that are made once, by whoever comes first, and are whole or absent."""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.deploy.lease import cache_folder

Say = Callable[[str], None]


def environments() -> Path:
    """Return the folder of all cached environments."""
    return cache_folder() / "environments"


def made_once(name: str, make: Callable[[Path], None], say: Say, what: str) -> Path:
    """Return the folder `name` of the cache; `make` fills it when it is not there yet.

    A lock lets runs side by side make it once; who waits for the lock says so. `make` gets the
    final path, because environments cannot be moved; a marker beside it says that it is whole,
    and a folder without its marker (a killed install) is removed and made again.
    """
    folder = environments() / name
    whole = folder.with_name(f"{name}.whole")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if whole.exists():
        return folder
    with _locked(folder.with_name(f"{name}.lock"), say, what):
        if not whole.exists():
            say(f"installing {what}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            whole.touch()
    return folder


@contextmanager
def _locked(path: Path, say: Say, what: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that installs {what}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def python_tag() -> str:
    """Return the part of a folder's name that says which Python it is for, such as cp311."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"
