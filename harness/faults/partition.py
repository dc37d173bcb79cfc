"""A partition: nodes are cut off from other nodes, while every worker reaches both sides."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

from harness.deploy.host import ProcessHost
from harness.deploy.model import Node
from harness.deploy.parts import IN_CONTAINERS
from harness.faults import crossing, dials
from harness.faults.base import FaultError
from harness.faults.context import NotInjectedError
from harness.faults.dials import Sides
from harness.faults.process import ProcessFault
from harness.faults.roles import resolve_nodes
from harness.network import firewall
from harness.network.firewall import FirewallError, Pairs, pairs_between
from harness.vocabulary import ALL_PEERS

MARGIN_S = 3.0  # a partition that is longer than their patience by this is noticed by the others


class Partition(ProcessFault):
    """Packets between two sides are dropped (`held`) or answered with RST (`reset`)."""

    kind: ClassVar[str] = "partition"

    def available(self) -> str | None:
        """Return why it cannot run: it needs addresses of its own per node, and root."""
        if not isinstance(self.deployment.host, ProcessHost):
            return IN_CONTAINERS
        return firewall.missing() or None

    async def _peers(self) -> list[str]:
        if self.spec["peers"] == ALL_PEERS:
            return [node.name for node in (*self.deployment.nodes, *self.deployment.sentinels)]
        return await resolve_nodes(self.spec["peers"], self.deployment, self.choices)

    @property
    def others(self) -> list[Node]:
        """Return the nodes on the other side."""
        return [self.deployment.node(name) for name in self._other]

    @property
    def pairs(self) -> Pairs:
        """Return the pairs of addresses that are cut, both ways."""
        return pairs_between((n.host for n in self.nodes), (n.host for n in self.others))

    @property
    def chain(self) -> str:
        """Return the name of its chain of packet rules: of this run and this fault."""
        return f"harness-{self.deployment.subnet}-{self.planned.id}"

    @property
    def network(self) -> str:
        """Return the run's addresses, which alone meet its rules."""
        return f"{self.deployment.subnet}.0/24"

    async def inject(self) -> None:
        """Promise the rules back, then set them, all at once."""
        self._other = [name for name in await self._peers() if name not in self.target.nodes]
        if not self._other:
            raise NotInjectedError(
                f"nobody is on the other side of {' and '.join(self.target.nodes)}"
            )
        self._promise()
        mode = self.spec["mode"]
        try:
            await asyncio.to_thread(firewall.block, self.chain, self.network, self.pairs, mode)
        except FirewallError as error:
            raise FaultError(str(error)) from error

    def _promise(self) -> None:
        """Have the guardian remove the rules at every kind of end."""
        entry = {"chain": self.chain, "network": self.network}
        with self.context.run.undo.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.context.guardian.take_back(self.context.run.undo)

    async def confirm(self) -> str:
        """Prove it by dials across, by dials from outside, and by what the nodes say."""
        sides = self._sides
        held = self.spec["mode"] == "held"
        network = await dials.proof_of_cut(sides, held=held)
        replication = await crossing.proof_of_silence(sides, held=held)
        noticed = self.planned.until - self.planned.at > self._patience_s + MARGIN_S
        doubts = await crossing.proof_of_doubt(sides, self._patience_s) if noticed else ""
        stopped = await asyncio.to_thread(firewall.stopped, self.chain)
        packets = f"{sum(stopped.values())} packets stopped so far"
        return "; ".join(filter(None, (network, replication, doubts, packets)))

    @property
    def _sides(self) -> Sides:
        return Sides(self.deployment, self.nodes, self.others)

    @property
    def _patience_s(self) -> float:
        """Return the seconds after which sentinels or cluster nodes notice a silent node."""
        redis = self.context.redis
        sentinels = self.deployment.topology == "sentinel"
        patience_ms: int = redis.down_after_ms if sentinels else redis.node_timeout_ms
        return patience_ms / 1000

    async def heal(self) -> None:
        """Remove the rules."""
        try:
            await asyncio.to_thread(firewall.unblock, self.chain, self.network)
        except FirewallError as error:
            raise FaultError(str(error)) from error

    async def confirm_heal(self) -> str:
        """Prove that both sides are one again: dials pass, roles agree, data flows."""
        sides = self._sides
        network = await dials.proof_of_passage(sides)
        roles = await self.settled()
        flow = await crossing.proof_of_flow(sides)
        return "; ".join(filter(None, (network, *roles, flow)))
