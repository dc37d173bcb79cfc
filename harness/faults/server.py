"""Faults that the servers do on command: failover, client kill and pause, settings, flush."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from harness.clock import monotonic
from harness.deploy.direct import direct
from harness.deploy.model import Deployment, Node
from harness.faults.base import FaultError
from harness.faults.commands import (
    command,
    read_settings,
    refusal_of,
    seat_on,
    statistic,
    write_settings,
)
from harness.faults.context import NotInjectedError
from harness.faults.process import ProcessFault, answering
from harness.faults.proofs import SILENCE_S, answers_within, expect
from harness.faults.roles import resolve_nodes
from harness.faults.views import cluster_members, name_of, raw
from harness.plan import PlannedFault

MOVED_S = 15.0  # an orderly failover under load
PACE_S = 0.1  # between questions about who is primary
REJECTED = "rejected_connections"
PROBE_KEY = "harness:probe"  # written to see whether writes are paused; expires at once


class ServerFault(ProcessFault):
    """A fault done by commands to the nodes of a role; most have nothing to heal."""

    def __init__(self, planned: PlannedFault, deployment: Deployment, context: Any) -> None:
        super().__init__(planned, deployment, context)
        self.said: dict[str, str] = {}  # evidence by node, known at the injection already

    async def each(self, act: Callable[[Node], Awaitable[Any]]) -> None:
        """Act on every node of the aim at once."""
        await asyncio.gather(*(act(node) for node in self.nodes))

    async def confirm(self) -> str:
        """Return what the servers said."""
        return "; ".join(self.said.values())

    async def heal(self) -> None:
        """Nothing to undo."""

    async def confirm_heal(self) -> str:
        """Prove it by a PONG from every node."""
        await self.each(answering)
        return "; ".join(f"{node.name} answers PING" for node in self.nodes)


class Failover(ServerFault):
    """`SENTINEL FAILOVER` or `CLUSTER FAILOVER`: another node becomes the primary, in order."""

    kind: ClassVar[str] = "failover"

    def available(self) -> str | None:
        """Return why it cannot run: a single server has nobody to hand over to."""
        if self.deployment.topology == "standalone":
            return "needs topology sentinel or cluster: a single server has no replica"
        return None

    async def inject(self) -> None:
        """Ask for it; a refusal changes nothing."""
        self._began = monotonic()
        old = self.nodes[0]
        try:
            await (self._sentinel() if self.deployment.topology == "sentinel" else self._cluster())
        except FaultError as error:
            raise NotInjectedError(str(error)) from error
        self._old = old.name

    async def _sentinel(self) -> None:
        service, sentinel = self.deployment.service, self.deployment.sentinels[0]
        await command(sentinel, lambda c: raw(c, "SENTINEL FAILOVER", service))

    async def _cluster(self) -> None:
        members = await cluster_members(self.deployment)
        own = next(m for m in members if m.address == self.nodes[0].address)
        names = [
            name_of(self.deployment, m.address)
            for m in members
            if m.primary == own.identity and m.is_up
        ]
        if not names or names[0] is None:
            raise FaultError(f"{self.nodes[0].name} has no replica that could take over")
        replica = self.deployment.node(names[0])
        await command(replica, lambda c: raw(c, "CLUSTER FAILOVER"))

    async def confirm(self) -> str:
        """Prove it by another node in the old one's place."""

        async def moved() -> str:
            await asyncio.sleep(PACE_S)
            if self.deployment.topology == "cluster":
                return await self._demoted()
            [now] = await resolve_nodes("primary", self.deployment, self.choices)
            return "" if now == self._old else now

        now = await expect(moved, MOVED_S, f"another primary than {self._old}")
        took = monotonic() - self._began
        return f"{now} is primary in the place of {self._old} after {took:.2f} s"

    async def _demoted(self) -> str:
        """Return the node that serves the old primary's slots now; nothing before."""
        members = await cluster_members(self.deployment)
        old = next((m for m in members if m.address == self.nodes[0].address), None)
        new = next((m for m in members if old and m.identity == old.primary and m.serves), None)
        return (name_of(self.deployment, new.address) or "") if new else ""

    async def confirm_heal(self) -> str:
        """Prove that the old primary is a replica that the others agree with."""
        return "; ".join(await self.settled())


class ClientKill(ServerFault):
    """`CLIENT KILL TYPE`: connections end, as by a restart, but the server goes on."""

    kind: ClassVar[str] = "client-kill"

    async def inject(self) -> None:
        """Close the connections of the type, our own excepted."""
        await self.each(self._kill)

    async def _kill(self, node: Node) -> None:
        kind = self.spec["type"]
        words = ("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        closed = int(await command(node, lambda c: raw(c, *words)))
        if not closed:
            raise NotInjectedError(f"{node.name} had no connection of type {kind} to close")
        self.said[node.name] = f"{node.name} closed {closed} connections of type {kind}"


class ClientPause(ServerFault):
    """`CLIENT PAUSE`: the server lives and answers nobody, or takes no writes."""

    kind: ClassVar[str] = "client-pause"

    async def inject(self) -> None:
        """Pause for the fault's own length: a paused server takes no order to go on."""
        self._began = monotonic()
        milliseconds = str(int((self.planned.until - self.planned.at) * 1000))
        words = ("CLIENT", "PAUSE", milliseconds, self.spec["mode"].upper())
        await self.each(lambda node: command(node, lambda c: raw(c, *words)))

    async def confirm(self) -> str:
        """Prove it by a command without an answer."""
        return "; ".join(await asyncio.gather(*(self._silent(node) for node in self.nodes)))

    async def _silent(self, node: Node) -> str:
        if self.spec["mode"] == "all":
            silent, what = not await answers_within(node.address, SILENCE_S), "PONG"
        else:
            silent, what = not await _takes_writes(node, SILENCE_S), "answer to a write"
        if not silent:
            raise FaultError(f"{node.name} is paused and still answers")
        return f"{node.name}: no {what} within {SILENCE_S * 1000:.0f} ms"

    async def heal(self) -> None:
        """Wait until the servers' own pause is over."""
        await self.each(answering)


async def _takes_writes(node: Node, seconds: float) -> bool:
    client = direct(node)
    try:
        async with asyncio.timeout(seconds):
            await client.set(PROBE_KEY, "1", px=1)
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await client.aclose()
    return True


class Config(ServerFault):
    """`CONFIG SET`: limits change under a running deployment.

    One connection to each node is kept from the injection to the heal: at `maxclients` a server
    takes no new one, not even to be healed.
    """

    kind: ClassVar[str] = "config"

    async def inject(self) -> None:
        """Remember the old values and set the new ones; a refusal changes nothing."""
        self._old: dict[str, dict[str, str]] = {}
        self._seats = AsyncExitStack()
        self._seat: dict[str, Redis] = {}
        try:
            await self.each(self._set)
        except NotInjectedError:
            await self._seats.aclose()
            raise

    async def _set(self, node: Node) -> None:
        wanted = self.spec["settings"]
        seat = self._seat[node.name] = await self._seats.enter_async_context(seat_on(node))
        old = await read_settings(seat, wanted)
        if missing := sorted(set(wanted) - set(old)):
            raise NotInjectedError(f"{node.name} knows no setting {', '.join(missing)}")
        self._old[node.name] = old
        await write_settings(seat, wanted)

    async def confirm(self) -> str:
        """Prove it by CONFIG GET, and a new `maxclients` by what a further connection meets."""
        return "; ".join(await asyncio.gather(*(self._shows(node) for node in self.nodes)))

    async def _shows(self, node: Node) -> str:
        seat, old = self._seat[node.name], self._old[node.name]
        now = await read_settings(seat, self.spec["settings"])
        changes = [f"{name} {old[name] or 'empty'} → {now[name] or 'empty'}" for name in now]
        if now == old:
            raise FaultError(f"{node.name}: nothing changed: {', '.join(changes)}")
        if "maxclients" in now:
            changes.append(await _further_connection(node, seat))
        return f"{node.name}: {', '.join(changes)}"

    async def heal(self) -> None:
        """Set the old values again."""
        await self.each(self._restore)
        await self._seats.aclose()

    async def _restore(self, node: Node) -> None:
        if not (old := self._old.get(node.name)):
            return
        try:
            await write_settings(self._seat[node.name], old)
        except (RedisError, OSError):  # the server has ended meanwhile, and the seat with it
            await command(node, lambda c: write_settings(c, old))


async def _further_connection(node: Node, seat: Redis) -> str:
    """Return what one more connection meets: a refusal, or how many there are."""
    before = await statistic(seat, REJECTED)
    refusal, writer = await refusal_of(node)
    if writer is None:
        more = await statistic(seat, REJECTED) - before
        return f"a further connection is refused: {refusal} ({REJECTED} +{more})"
    writer.close()
    return f"{(await seat.info('clients'))['connected_clients']} connections are in use"


class Flush(ServerFault):
    """`FLUSHALL`: the data is gone, the connections are not."""

    kind: ClassVar[str] = "flush"
    loses_data = True

    async def inject(self) -> None:
        """Flush; nodes that were empty prove nothing."""
        await self.each(self._flush)

    async def _flush(self, node: Node) -> None:
        async def flush(client: Redis) -> int:
            before = int(await client.dbsize())
            await client.flushall()
            return before

        before = await command(node, flush)
        if not before:
            raise FaultError(f"{node.name} held no key to lose")
        self.said[node.name] = f"{node.name} held {before} keys and was emptied"
