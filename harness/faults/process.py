"""Faults on Redis processes: kill (SIGKILL, started again) and pause (SIGSTOP, SIGCONT)."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from harness.clock import monotonic
from harness.deploy.direct import tls_of
from harness.deploy.model import Deployment, Node, Process
from harness.deploy.redis import restart_node
from harness.faults.base import Aim, FaultError
from harness.faults.proofs import Listener, answers_within, expect
from harness.faults.roles import resolve_nodes
from harness.faults.signals import Killing, Pausing, SignalFault
from harness.faults.views import Member, ask, cluster_members, read_role, sentinel_primary

ANSWER_S = 5.0  # a healed node answers
PACE_S = 0.4  # between questions about roles: each asks several nodes
WHOLE_S = 16.0  # Sentinel demotes a revived primary after 10 s; a full resynchronisation fits in


class ProcessFault(SignalFault):
    """A fault on the processes of the nodes that have a role."""

    async def aim(self) -> Aim:
        """Resolve the role now."""
        return Aim(nodes=await resolve_nodes(self.spec["target"], self.deployment, self.choices))

    @property
    def nodes(self) -> list[Node]:
        """Return the nodes it aims at."""
        return [self.deployment.node(name) for name in self.target.nodes]

    def listeners(self) -> list[Listener]:
        """Return them as their processes and how they are asked."""
        return [Listener(n.name, _process(n), n.address, tls_of(n)) for n in self.nodes]

    async def settled(self) -> list[str]:
        """Wait until every node serves again in a role that the topology agrees with."""
        sentences = await asyncio.gather(*(self._whole(node) for node in self.nodes))
        return list(sentences)

    async def _whole(self, node: Node) -> str:
        began = monotonic()
        await answering(node)
        if node.kind == "sentinel" or self.deployment.topology == "standalone":
            return f"{node.name} answers PING"

        async def role_agreed() -> str:
            if not (role := await _agreed_role(self.deployment, node)):
                await asyncio.sleep(PACE_S)
            return role

        label = f"{node.name} has a role that the others agree with"
        role = await expect(role_agreed, WHOLE_S, label)
        return f"{node.name} is a {role} again after {monotonic() - began:.2f} s"


class Kill(Killing, ProcessFault):
    """SIGKILL; healed by starting the server again, its data kept or empty."""

    kind: ClassVar[str] = "kill"

    @property
    def loses_data(self) -> bool:
        """Tell whether acknowledged data is gone by design: nobody else can serve a copy of it.

        That is so for the only node, for all nodes at once, and for a primary that is back,
        empty, before anybody could be promoted: its replicas then copy the emptiness.
        """
        redis = self.context.redis
        if self.spec["restart"] == "kept" and redis.persistence == "aof":
            return False
        everybody = {node.name for node in self.deployment.nodes} <= set(self.target.nodes)
        if everybody or self.deployment.topology == "standalone":
            return True
        cluster = self.deployment.topology == "cluster"
        patience_ms = redis.node_timeout_ms if cluster else redis.down_after_ms
        back_early = (self.planned.until - self.planned.at) * 1000 <= patience_ms
        return "primary" in self.spec["target"] and back_early

    async def heal(self) -> None:
        """Start the servers again at the same addresses."""
        empty = self.spec["restart"] == "empty"
        context = self.context
        await asyncio.gather(
            *(
                restart_node(self.deployment, node, context.redis, empty)
                for node in self.nodes
                if _process(node).exit_status is not None
            )
        )

    async def confirm_heal(self) -> str:
        """Prove it by a PONG, and the role under Sentinel and Cluster."""
        how = f"restarted with data {self.spec['restart']}"
        return f"{how}: " + "; ".join(await self.settled())


class Pause(Pausing, ProcessFault):
    """SIGSTOP; healed by SIGCONT. Under Sentinel the revived primary is a zombie for 10 s."""

    kind: ClassVar[str] = "pause"

    async def heal(self) -> None:
        """Continue them; returns when each answers."""
        await super().heal()
        await asyncio.gather(*(answering(node) for node in self.nodes))

    async def confirm_heal(self) -> str:
        """Prove it by a PONG and, after a failover, by the demotion of the old primary."""
        return "continued: " + "; ".join(await self.settled())


def _process(node: Node) -> Process:
    if node.process is None:
        raise FaultError(f"{node.name} has no process to act on; it was never started")
    return node.process


async def answering(node: Node) -> None:
    """Wait until a node answers PING; raise FaultError when it does not within 5 s."""
    await expect(
        lambda: answers_within(node.address, ANSWER_S, tls=tls_of(node)),
        ANSWER_S,
        f"{node.name} answers PING again",
    )


async def _agreed_role(deployment: Deployment, node: Node) -> str:
    """Return the node's role once the rest of the topology agrees; nothing before.

    A replica must be linked to its primary. A primary must be the one that everybody knows:
    a revived old primary under Sentinel believes in itself for another 10 s.
    """
    role = await ask(node, read_role)
    if role is None:
        return ""
    if role.name == "replica":
        return "replica" if role.link == "connected" else ""
    if deployment.topology == "sentinel":
        return "primary" if await sentinel_primary(deployment) == node.name else ""
    return "primary" if _is_member_primary(await cluster_members(deployment), node) else ""


def _is_member_primary(members: list[Member], node: Node) -> bool:
    return any(member.address == node.address and member.serves for member in members)
