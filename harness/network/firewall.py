"""Packet rules between nodes of one run: what a partition between them is made of.

Each fault has a chain of its own, with one rule per ordered pair of addresses. The way into the
chain is only for packets inside the run's 127.x.y.0/24, so no other run ever meets a rule. Workers
and the harness dial from 127.0.0.1: what they send is in no pair.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain as joined
from itertools import product
from typing import Final

from harness.deploy.undo import PATH, entrance, remove_chain

COMMAND_S: Final = 10.0
RULES: Final = {  # mode → what a packet of a pair meets
    "held": "-j DROP",
    # A RST must pass, also the one that the other side's rule sends.
    "reset": "-p tcp ! --tcp-flags RST RST -j REJECT --reject-with tcp-reset",
}

Pairs = list[tuple[str, str]]


class FirewallError(Exception):
    """The packet filter refused; says what and why."""


def pairs_between(one: Iterable[str], other: Iterable[str]) -> Pairs:
    """Return every ordered pair of addresses across a cut, both ways."""
    ones, others = sorted(set(one)), sorted(set(other))
    return list(joined(product(ones, others), product(others, ones)))


@lru_cache(maxsize=1)
def missing() -> str:
    """Return why there can be no packet rules here; empty when there can."""
    if shutil.which("iptables-restore", path=PATH) is None:
        return "iptables was found in no folder of programs: install the package `iptables`"
    try:
        _run("iptables", "-S", "INPUT")
        _restore("--test", _lines("harness-probe", "127.0.0.0/24", [], "held"))
    except FirewallError as error:
        return f"the packet filter wants root (CAP_NET_ADMIN): {error}"
    return ""


def block(chain: str, network: str, pairs: Pairs, mode: str) -> None:
    """Let no packet of the pairs pass any more, all from the same instant.

    `network` is the run's subnet, like 127.20.3.0/24. Raises FirewallError.
    """
    _restore("--noflush", _lines(chain, network, pairs, mode))


def unblock(chain: str, network: str) -> None:
    """Remove the chain with all its rules at once; does nothing when it is not there."""
    try:
        remove_chain(chain, network)
    except OSError as error:
        raise FirewallError(str(error)) from error


def stopped(chain: str) -> dict[tuple[str, str], int]:
    """Return how many packets of each pair were stopped so far; raises FirewallError."""
    table = _run("iptables", "-nvxL", chain).splitlines()[2:]
    rows = (line.split() for line in table)
    return {(row[7], row[8]): int(row[0]) for row in rows}


def _lines(chain: str, network: str, pairs: Pairs, mode: str) -> str:
    rules = (f"-A {chain} -s {one}/32 -d {other}/32 {RULES[mode]}" for one, other in pairs)
    return "\n".join(["*filter", f":{chain} - [0:0]", *rules, f"-A {entrance(chain, network)}"])


def _restore(option: str, lines: str) -> None:
    _run("iptables-restore", option, stdin=f"{lines}\nCOMMIT\n")


def _run(program: str, *arguments: str, stdin: str = "") -> str:
    """Run a command of the packet filter; return what it prints."""
    found = shutil.which(program, path=PATH) or program
    words = [found, "--wait", "5", *arguments]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{program}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise FirewallError(f"{program} {' '.join(arguments)}: {said}")
    return done.stdout
