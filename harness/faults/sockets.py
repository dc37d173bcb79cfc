"""TCP connections of processes as the kernel lists them: cheap, from outside, for any target."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Set as AbstractSet
from pathlib import Path
from urllib.parse import urlsplit

Address = tuple[str, int]

TCP_TABLE = Path("/proc/net/tcp")
_ESTABLISHED = b"01"


def encode(address: Address) -> bytes:
    """Return an IPv4 address and port as /proc/net/tcp writes it (host byte order)."""
    packed = struct.unpack("=I", socket.inet_aton(address[0]))[0]
    return f"{packed:08X}:{address[1]:04X}".encode()


def established(peers: AbstractSet[Address]) -> dict[int, Address]:
    """Return socket inode → peer of every established connection to one of `peers`."""
    return parse_table(TCP_TABLE.read_bytes(), {encode(peer): peer for peer in peers})


def parse_table(data: bytes, wanted: dict[bytes, Address]) -> dict[int, Address]:
    """Read the text of /proc/net/tcp."""
    found: dict[int, Address] = {}
    for line in data.split(b"\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) > 9 and fields[3] == _ESTABLISHED and fields[2] in wanted:
            found[int(fields[9])] = wanted[fields[2]]
    return found


def descriptors(pid: int) -> list[str]:
    """Return what the descriptors of a process point to; nothing when it is gone."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 (half the cost)
    except OSError:
        return []
    return [_target(f"{folder}/{name}") for name in names]


def _target(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (half the cost)
    except OSError:  # closed in between
        return ""


def inodes_of(targets: list[str]) -> set[int]:
    """Return the inodes of the sockets among descriptors."""
    return {int(target[8:-1]) for target in targets if target.startswith("socket:[")}


def socket_inodes(pid: int) -> set[int]:
    """Return the inodes of a process's sockets."""
    return inodes_of(descriptors(pid))


def provider_address(url: str) -> Address:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80
