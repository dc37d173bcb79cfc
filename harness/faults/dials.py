"""Dials between nodes as they would make them: from the address of one to the other.

A TCP connection is made by the kernels alone, so it proves the way, whatever the servers speak.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import product

from harness.deploy.model import Deployment, Node
from harness.faults.base import FaultError
from harness.faults.proofs import SILENCE_S

PASSAGE_S = 2.0


@dataclass(frozen=True)
class Sides:
    """The nodes on both sides of a partition; sentinels are nodes too."""

    deployment: Deployment
    ones: list[Node]
    others: list[Node]

    @property
    def ways(self) -> list[tuple[Node, Node]]:
        """Return every way across, in both directions: who dials, and whom."""
        return [*product(self.ones, self.others), *product(self.others, self.ones)]

    def apart(self, one: str, other: str) -> bool:
        """Tell whether two nodes are on different sides."""
        names = {node.name for node in self.ones}
        return (one in names) != (other in names)

    def __str__(self) -> str:
        sides = (", ".join(node.name for node in side) for side in (self.ones, self.others))
        return " ↮ ".join(sides)


async def proof_of_cut(sides: Sides, *, held: bool) -> str:
    """Prove that no dial passes either way, and that everybody is reached from outside."""
    expected = "silent" if held else "refused"
    fates = await _fates(sides, expected, SILENCE_S if held else PASSAGE_S)
    how = f"no answer within {SILENCE_S * 1000:.0f} ms" if held else "refused"
    tried = f"{fates[expected]} dials across {how}, all nodes reached from outside"
    return f"{sides}: {tried}{_untried(fates)}"


async def proof_of_passage(sides: Sides) -> str:
    """Prove that every dial across passes."""
    fates = await _fates(sides, "open", PASSAGE_S)
    return f"{sides}: {fates['open']} dials across pass again{_untried(fates)}"


def _untried(fates: Counter[str]) -> str:
    return f", {fates['down']} not tried, to nodes that are down" if fates["down"] else ""


async def _fates(sides: Sides, expected: str, deadline: float) -> Counter[str]:
    """Return how the dials across fared; raise FaultError for one that fared otherwise."""
    fates = await asyncio.gather(*(_fate(way, expected, deadline) for way in sides.ways))
    counted = Counter(fates)
    if not counted[expected]:
        raise FaultError(f"{sides}: nothing was tried, all nodes are down")
    return counted


async def _fate(way: tuple[Node, Node], expected: str, deadline: float) -> str:
    source, goal = way
    from_outside = await dial(None, goal, PASSAGE_S)
    if from_outside != "open":
        return "down"
    fate = await dial(source, goal, deadline)
    if fate != expected:
        text = f"{source.name} → {goal.name}: expected a dial to be {expected}, it was {fate}"
        raise FaultError(text)
    return fate


async def dial(source: Node | None, goal: Node, deadline: float) -> str:
    """Return how a new connection fares: `open`, `refused`, `silent`, or the error's words."""
    local = None if source is None else (source.host, 0)
    try:
        opening = asyncio.open_connection(*goal.address, local_addr=local)
        _, writer = await asyncio.wait_for(opening, deadline)
    except TimeoutError:
        return "silent"
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"
    except OSError as error:
        return str(error)
    writer.transport.abort()
    return "open"
