"""Faults on Redis processes: kill (SIGKILL, started again) and pause (SIGSTOP, SIGCONT)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, ClassVar

from harness.clock import monotonic
from harness.deploy.model import Deployment, Node, Process
from harness.deploy.redis import restart_node
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.roles import resolve_nodes
from harness.faults.views import Member, ask, cluster_members, read_role, sentinel_primary
from harness.plan import Choices
from harness.waiting import WaitTimeout, wait_for

DEATH_S = 3.0
ANSWER_S = 5.0  # a healed node answers
SILENCE_S = 0.3  # this long without an answer is the evidence of a pause
STATE_S = 1.0
PACE_S = 0.4  # between questions about roles: each asks several nodes
WHOLE_S = 16.0  # Sentinel demotes a revived primary after 10 s; a full resynchronisation fits in


class ProcessFault(Fault):
    """A fault on the processes of the nodes that have a role."""

    async def aim(self) -> Aim:
        """Resolve the role now."""
        choices = Choices(self.context.seed, f"fault-{self.planned.id}")
        return Aim(nodes=await resolve_nodes(self.spec["target"], self.deployment, choices))

    @property
    def nodes(self) -> list[Node]:
        """Return the nodes it aims at."""
        return [self.deployment.node(name) for name in self.target.nodes]

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


class Kill(ProcessFault):
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

    async def inject(self) -> None:
        """Kill every node of the aim at once."""
        self._killed = [_process(node) for node in self.nodes]
        for process in self._killed:
            self.context.expect_exit(process)
            process.signal(signal.SIGKILL)

    async def confirm(self) -> str:
        """Prove it by exit status -9 and a refused connection."""
        pairs = zip(self.nodes, self._killed, strict=True)
        return "; ".join(await asyncio.gather(*(_proof_of_death(n, p) for n, p in pairs)))

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


class Pause(ProcessFault):
    """SIGSTOP; healed by SIGCONT. Under Sentinel the revived primary is a zombie for 10 s."""

    kind: ClassVar[str] = "pause"

    async def inject(self) -> None:
        """Stop every node of the aim at once."""
        self._paused = [_process(node) for node in self.nodes]
        for process in self._paused:
            process.signal(signal.SIGSTOP)

    async def confirm(self) -> str:
        """Prove it by process state T and a PING without an answer."""
        pairs = zip(self.nodes, self._paused, strict=True)
        return "; ".join(await asyncio.gather(*(_proof_of_silence(n, p) for n, p in pairs)))

    async def heal(self) -> None:
        """Continue them."""
        for process in self._paused:
            process.signal(signal.SIGCONT)
        await asyncio.gather(*(answering(node) for node in self.nodes))

    async def confirm_heal(self) -> str:
        """Prove it by a PONG and, after a failover, by the demotion of the old primary."""
        return "continued: " + "; ".join(await self.settled())


def _process(node: Node) -> Process:
    if node.process is None:
        raise FaultError(f"{node.name} has no process to act on; it was never started")
    return node.process


async def _proof_of_death(node: Node, process: Process) -> str:
    try:
        status = await process.wait(DEATH_S)
    except WaitTimeout as error:
        raise FaultError(f"{node.name} (pid {process.pid}) survived SIGKILL: {error}") from error
    if status != -signal.SIGKILL:
        raise FaultError(f"{node.name} ended with status {status}, not by SIGKILL (-9)")
    how = await expect(lambda: _turned_away(node), DEATH_S, f"{node.name} takes no connections")
    return f"{node.name} (pid {process.pid}) ended by SIGKILL and {how}"


async def _turned_away(node: Node) -> str:
    """Return how a connection to a dead server fares; nothing while somebody may be there.

    A container engine goes on listening at a published port, and closes what it accepts.
    """
    try:
        async with asyncio.timeout(SILENCE_S):
            return "" if await _pong(node) else "closes connections unanswered"
    except ConnectionRefusedError:
        return "refuses connections"
    except ConnectionResetError:
        return "resets connections"
    except (OSError, TimeoutError):
        return ""


async def _proof_of_silence(node: Node, process: Process) -> str:
    async def stopped() -> bool:
        return await process.state() == "T"

    await expect(stopped, STATE_S, f"{node.name} is stopped (state T)")
    if await answers_within(node, SILENCE_S):
        raise FaultError(f"{node.name} (pid {process.pid}) is stopped and still answers PING")
    return (
        f"{node.name} (pid {process.pid}) is in state T, no PONG within {SILENCE_S * 1000:.0f} ms"
    )


async def answers_within(node: Node, seconds: float) -> bool:
    """Send a raw PING: a stopped server's kernel still accepts the connection, nobody answers."""
    try:
        async with asyncio.timeout(seconds):
            return await _pong(node)
    except (OSError, TimeoutError):
        return False


async def _pong(node: Node) -> bool:
    """Tell whether anything comes back for a PING on a new connection, or only its end."""
    reader, writer = await asyncio.open_connection(node.host, node.port)
    try:
        writer.write(b"PING\r\n")
        return bool(await reader.read(16))
    finally:
        writer.close()


async def answering(node: Node) -> None:
    """Wait until a node answers PING; raise FaultError when it does not within 5 s."""
    await expect(
        lambda: answers_within(node, ANSWER_S), ANSWER_S, f"{node.name} answers PING again"
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


async def expect(predicate: Callable[[], Any], deadline: float, label: str) -> Any:
    """Wait for something that the fault needs; raise FaultError when it does not come."""
    try:
        return await wait_for(predicate, deadline, label)
    except WaitTimeout as error:
        raise FaultError(str(error)) from error
