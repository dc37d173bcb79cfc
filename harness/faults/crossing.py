"""What nodes say of each other across a partition: replication both ways, and who is held for down.

Asked over direct connections, which a partition between nodes does not touch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis

from harness.clock import monotonic
from harness.deploy.model import Node
from harness.faults.dials import Sides
from harness.faults.process import PACE_S, WHOLE_S
from harness.faults.proofs import expect
from harness.faults.views import Address, ask, ask_all, raw, read_cluster, read_role

T = TypeVar("T")

SILENT_S = 2  # replicas acknowledge every second, so this long without a word is no chance
LAG_S = 8.0
DOUBT_S = 5.0  # on top of the patience
NOBODY = ("", 0)
PROBE = "harness:probe"  # a channel nobody listens on: what is published there is replicated
DOWN = {"s_down", "o_down", "disconnected", "fail", "fail?"}


@dataclass(frozen=True)
class _Link:
    """A replication link across, and what both its ends say."""

    primary: str
    replica: str
    lag: int | None  # seconds since the replica's last word; None: the primary knows it no more
    heard: int | None  # seconds since the primary's last word; None: the replica has no such link

    def silent(self, *, held: bool) -> bool:
        """Tell whether neither end hears the other; without packets they only wait."""
        gone = self.lag is None or self.lag >= SILENT_S
        return gone and (self.heard is None or (held and self.heard >= SILENT_S))

    @property
    def flows(self) -> bool:
        """Tell whether both ends hear each other; an idle primary speaks every 10 s."""
        return self.heard is not None and self.lag is not None and self.lag < SILENT_S

    def __str__(self) -> str:
        lag = "has lost it" if self.lag is None else f"has had no word of it for {self.lag} s"
        heard = (
            "has no link to" if self.heard is None else f"has heard nothing for {self.heard} s of"
        )
        return f"{self.replica} {heard} {self.primary}, which {lag}"


async def proof_of_silence(sides: Sides, *, held: bool) -> str:
    """Prove by both ends of each replication link across that nothing passes; raise FaultError.

    A replica of an idle primary hears nothing either, so primaries are given something to say, and
    their silence counts from then.
    """
    ends = await _ends(sides)
    earliest = monotonic() + (SILENT_S + 1 if held else 0)

    async def silent() -> str:
        links = await _links(ends)
        proven = all(link.silent(held=held) for link in links) and monotonic() > earliest
        return ", ".join(map(str, links)) if proven else ""

    label = f"replication across {sides} is silent"
    return await _paced(silent, LAG_S, label) if ends else ""


async def proof_of_flow(sides: Sides) -> str:
    """Prove that data flows on each replication link across, and nobody is held for down."""

    async def whole() -> str:
        links = await _links(await _ends(sides))
        if not all(link.flows for link in links) or await _doubts(sides):
            return ""
        return f"{len(links)} replication links across flow, nobody is held for down"

    return await _paced(whole, WHOLE_S, f"{sides} are one again")


async def proof_of_doubt(sides: Sides, patience: float) -> str:
    """Prove that all others that watch nodes hold all those cut off for down."""
    if not await _views(sides):
        return ""
    names = {node.name for node in sides.ones}

    async def doubted() -> dict[str, set[str]]:
        views, doubts = await _views(sides), await _doubts(sides)
        watched = {who: names & view.keys() for who, view in views.items()}
        return doubts if doubts and doubts == watched else {}

    label = f"{', '.join(sorted(names))} are held for down by the others"
    doubts = await _paced(doubted, patience + DOUBT_S, label)
    return f"held for down by {', '.join(sorted(doubts))}"


async def _paced(question: Callable[[], Awaitable[T]], deadline: float, label: str) -> T:
    async def paced() -> T:
        if not (answer := await question()):
            await asyncio.sleep(PACE_S)
        return answer

    answer: T = await expect(paced, deadline, label)
    return answer


async def _ends(sides: Sides) -> list[tuple[Node, Node]]:
    """Return the primary and the replica of every replication link across."""
    nodes = {n.address: n for n in (*sides.ones, *sides.others) if n.kind == "redis"}
    roles = await ask_all(nodes.values(), read_role)
    replicas = (
        (n, nodes.get(roles[n.name].primary or NOBODY)) for n in nodes.values() if n.name in roles
    )
    return [
        (primary, replica)
        for replica, primary in replicas
        if primary is not None and sides.apart(replica.name, primary.name)
    ]


async def _links(ends: list[tuple[Node, Node]]) -> list[_Link]:
    """Return what the ends say right now; nothing of those of which one does not answer."""
    found = await asyncio.gather(*(_link(primary, replica) for primary, replica in ends))
    return [link for link in found if link is not None]


async def _link(primary: Node, replica: Node) -> _Link | None:
    above, below = await asyncio.gather(ask(primary, _stirred), ask(replica, _replication))
    if above is None or below is None:
        return None
    rows = (v for k, v in above.items() if re.fullmatch(r"slave\d+", k))
    lags = [row["lag"] for row in rows if (row["ip"], row["port"]) == replica.address]
    linked = below.get("master_link_status") == "up"
    linked = linked and (below["master_host"], below["master_port"]) == primary.address
    heard = below["master_last_io_seconds_ago"] if linked else None
    return _Link(primary.name, replica.name, lags[0] if lags else None, heard)


async def _stirred(client: Redis) -> dict[str, Any]:
    """Give an idle primary something to replicate, then read what it says of its replicas."""
    await client.publish(PROBE, "")
    return await _replication(client)


async def _replication(client: Redis) -> dict[str, Any]:
    found: dict[str, Any] = await client.info("replication")
    return found


async def _doubts(sides: Sides) -> dict[str, set[str]]:
    """Return who of the others holds whom of those cut off for down."""
    names = {node.name for node in sides.ones}
    views = await _views(sides)
    held = {who: {n for n in names & view.keys() if view[n] & DOWN} for who, view in views.items()}
    return {who: those for who, those in held.items() if those}


async def _views(sides: Sides) -> dict[str, dict[str, set[str]]]:
    """Return what those of the others who watch nodes know: node → its flags."""
    deployment = sides.deployment
    if deployment.topology == "cluster":
        seen = await ask_all(sides.others, read_cluster)
        members = {who: {m.address: set(m.flags) for m in view} for who, view in seen.items()}
    else:
        sentinels = [node for node in sides.others if node.kind == "sentinel"]
        members = await ask_all(sentinels, lambda c: _watched(c, deployment.service))
    known = {n.address: n.name for n in (*deployment.nodes, *deployment.sentinels)}
    return {
        who: {known[address]: flags for address, flags in view.items() if address in known}
        for who, view in members.items()
    }


async def _watched(client: Redis, service: str) -> dict[Address, set[str]]:
    """Return the flags of everybody that a sentinel watches, by address."""
    rows = [await raw(client, "SENTINEL MASTER", service)]
    rows += await raw(client, "SENTINEL REPLICAS", service)
    rows += await raw(client, "SENTINEL SENTINELS", service)
    entries = (dict(zip(row[::2], row[1::2], strict=True)) for row in rows)
    return {(e["ip"], int(e["port"])): set(e["flags"].split(",")) for e in entries}
