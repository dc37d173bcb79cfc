"""One 127.x.y.0/24 per run, leased by a file lock: runs side by side have no port in common."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingPart, UserError

SECOND = range(16, 80)  # 127.16.0 … 127.79.255; 127.0.0 is everybody's, 127.9x is for experiments
THIRD = range(256)
TRIES = 64  # a port that is taken on so many subnets is taken on all of them
PORTS = (  # the first address of each kind of part, see the layout in docs/architecture.md
    (2, 8474),
    (3, 9000),
    (4, 8080),
    (5, 4318),
    (10, 6379),
    (10, 16379),
    (30, 26379),
    (50, 8080),
)


def cache_folder() -> Path:
    """Return the project's cache folder: $XDG_CACHE_HOME or ~/.cache, and the project's name."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "redis-failover-harness"


def valid_subnet(text: str) -> str:
    """Return the first three numbers of a loopback /24 as given; raise UserError."""
    if re.fullmatch(r"127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){2}", text) is None:
        raise UserError(
            f"--subnet {text}: expected the first three numbers of a loopback /24, such as 127.20.3"
        )
    return text


@dataclass
class Lease:
    """A subnet that no other run uses. Held while any process has the descriptor `fd` open.

    The guardian inherits the descriptor and removes the file at its end.
    """

    path: Path
    fd: int

    @property
    def subnet(self) -> str:
        """Return its first three numbers, 127.x.y."""
        return self.path.name

    @classmethod
    def acquire(cls, folder: Path | None = None, subnet: str | None = None) -> Lease:
        """Lease a free subnet, or exactly `subnet`.

        Raises UserError when it, or every one, is taken; MissingPart where 127.x.y.z are no
        addresses of this machine.
        """
        folder = folder or cache_folder() / "subnets"
        _make(folder)
        if subnet is not None:
            return cls._demand(folder, subnet)
        taken: list[str] = []
        for candidate in _candidates():
            if (lease := cls._try(folder, candidate, taken)) is not None:
                return lease
            if len(taken) >= TRIES:
                break
        raise UserError(_all_taken(folder, taken))

    @classmethod
    def _demand(cls, folder: Path, subnet: str) -> Lease:
        subnet = valid_subnet(subnet)
        taken: list[str] = []
        if (lease := cls._try(folder, subnet, taken)) is not None:
            return lease
        reason = taken[0] if taken else f"leased by {_holder(folder / subnet)}"
        raise UserError(
            f"subnet {subnet}.0/24 is taken: {reason}. End that run (`harness clean` ends what "
            "dead runs left), or name no subnet and get a free one."
        )

    @classmethod
    def _try(cls, folder: Path, subnet: str, taken: list[str]) -> Lease | None:
        """Return the lease, or None; adds to `taken` the address that something listens on."""
        fd = lock(folder / subnet)
        if fd is None:
            return None
        try:
            busy = next((at for at in PORTS if not _free(f"{subnet}.{at[0]}", at[1])), None)
        except BaseException:
            os.close(fd)
            raise
        if busy is None:
            return cls(folder / subnet, fd)
        os.close(fd)
        taken.append(f"something listens on {subnet}.{busy[0]}:{busy[1]}")
        return None

    def describe(self, holder: str) -> None:
        """Write who holds it, for the message that another run shows."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, holder.encode(), 0)

    def close(self) -> None:
        """Give up this process's hold; a guardian that inherited the descriptor keeps its own."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a lease file; None when another one holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):  # held, or swept between open and lock
        pass
    os.close(fd)
    return None


def free_stale(folder: Path) -> list[str]:
    """Remove lease files that nobody holds; return the subnets of runs that were killed."""
    freed = []
    for path in sorted(folder.glob("127.*")):
        if (fd := lock(path)) is not None:
            if os.fstat(fd).st_size:  # the name of a holder that is gone
                freed.append(path.name)
            path.unlink()  # while locked: who opened it before sees that it is another file
            os.close(fd)
    return freed


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot make the folder of subnet leases: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that can be written."
        ) from error


def _candidates() -> Iterator[str]:
    subnets = [(second, third) for second in SECOND for third in THIRD]
    random.shuffle(subnets)
    return (f"127.{second}.{third}" for second, third in subnets)


def _free(host: str, port: int) -> bool:
    """Tell whether the address can be listened on; servers reuse what is only in TIME_WAIT."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise MissingPart(_no_loopback(host)) from error
            return False
    return True


def _no_loopback(host: str) -> str:
    return (
        f"{host} is not an address of this machine, and a run needs one loopback address per "
        "part. Linux has all of 127.0.0.0/8; elsewhere add them (macOS: `sudo ifconfig lo0 "
        f"alias {host}`), or run in a Linux container."
    )


def _all_taken(folder: Path, taken: list[str]) -> str:
    if taken:
        return (
            f"no free subnet: {taken[-1]}, as on {len(taken) - 1} other subnets tried. A server "
            "that listens on 0.0.0.0 takes its port on all of them: stop it, or bind it to "
            "127.0.0.1."
        )
    return f"no free subnet: all {len(SECOND) * len(THIRD)} leases in {folder} are held"


def _holder(path: Path) -> str:
    return path.read_text(errors="replace").strip() or "another run"
