"""Machines for tests: network namespaces of the run's own on one bridge, with clocks of their own.

Needs root. Nothing outside them is changed but one bridge, which goes with them.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NAME = re.compile(r"\brfh(\d+)x\d+(?:-\d+)?")  # of a namespace or bridge; the first: whose
NUMBERS = itertools.count()
NETWORK = "10.203.77"
BRIDGE_ADDRESS = f"{NETWORK}.1"


def missing() -> str:
    """Return why there can be no namespaces here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        _ip("netns", "add", "rfh-probe")
        _ip("netns", "del", "rfh-probe")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces: {error}"
    return ""


def in_namespace(name: str, ahead_s: int, *command: str | Path) -> list[str]:
    """Return the command as run in a namespace whose CLOCK_MONOTONIC is so many seconds ahead."""
    clock = ["unshare", "--time", "--monotonic", str(ahead_s)] if ahead_s else []
    return ["ip", "netns", "exec", name, *clock, *map(str, command)]


@contextmanager
def machines(count: int) -> Iterator[list[str]]:
    """Yield names of namespaces that reach this machine at BRIDGE_ADDRESS, and only there."""
    sweep()
    # a name is not used again: the links of a namespace that was deleted may stay for a moment
    bridge = f"rfh{os.getpid()}x{next(NUMBERS)}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        names = [f"{bridge}-{number}" for number in range(count)]
        for number, name in enumerate(names):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _join(name, bridge, f"{bridge}v{number}", f"{NETWORK}.{10 + number}/24")
        yield names


def sweep() -> None:
    """Remove what killed processes left: another bridge with this address would get the packets."""
    for kind, *words in (("netns", "list"), ("link", "show", "type", "bridge")):
        for name in NAME.finditer(_ip(kind, *words)):
            if not Path(f"/proc/{name[1]}").exists():
                _ip(kind, "del", name[0])


def _join(name: str, bridge: str, link: str, address: str) -> None:
    """Connect a namespace to the bridge by a pair of links."""
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", link, "master", bridge, "up")
    _ip("-n", name, "addr", "add", address, "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "link", "set", "lo", "up")


def _ip(*words: str) -> str:
    ended = subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    return ended.stdout
