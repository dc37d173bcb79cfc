"""Faults by too much of something: bytes for subscribers, data for the memory, connections."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from harness.deploy.model import Node
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
from harness.faults.proofs import expect
from harness.faults.server import ServerFault
from harness.faults.views import cluster_members, raw, slot_of

BULK_S = 10.0  # a big answer on a busy machine
DROPPED_S = 5.0
DROPS = "client_output_buffer_limit_disconnections"  # in INFO from Redis 7.4 on
PIECE = b"x" * 128 * 1024  # one value that fills the memory
PIECES = 8  # sent together
MOST_FILLED = 6  # times the room: after so much the policy evicts nothing of others
MEMORY = "maxmemory", "maxmemory-policy"
NAMES = "harness:fill"
CHUNK = 50  # connections opened, keys deleted together


class Flood(ServerFault):
    """PUBLISH of more than a subscriber's output buffer may hold: the server drops them all."""

    kind: ClassVar[str] = "flood"

    async def inject(self) -> None:
        """Publish; without a subscriber nothing has happened."""
        self._before: dict[str, tuple[set[str], int]] = {}
        await self.each(self._publish)

    async def _publish(self, node: Node) -> None:
        channel, size = self.deployment.target.channel(self.spec["channel"]), self.spec["bytes"]

        async def publish(client: Redis) -> int:
            self._before[node.name] = await _subscriptions(client), await statistic(client, DROPS)
            sent = [int(await client.publish(channel, b"x" * size)) for _ in range(self._times)]
            return max(sent)

        reached = await command(node, publish, socket_timeout=BULK_S)
        if not reached:
            raise NotInjectedError(f"nobody on {node.name} has subscribed to {channel}")
        words = f"{self._times} messages of {size} bytes to {reached} subscribers of {channel}"
        self.said[node.name] = f"{words} on {node.name}"

    @property
    def _times(self) -> int:
        return int(self.spec["times"])

    async def confirm(self) -> str:
        """Prove that the server has closed subscriptions."""
        return "; ".join(await asyncio.gather(*map(self._dropped, self.nodes)))

    async def _dropped(self, node: Node) -> str:
        before, drops = self._before[node.name]

        async def look(client: Redis) -> str:
            if not (gone := before - await _subscriptions(client)):
                return ""
            counted = await statistic(client, DROPS) - drops
            told = f" ({DROPS} +{counted})" if counted else ""
            return f"{len(gone)} of {len(before)} subscriptions were dropped{told}"

        label = f"{node.name} drops subscribers: their buffers may hold what was sent"
        said = await expect(lambda: command(node, look), DROPPED_S, label)
        return f"{self.said[node.name]}: {said}"


async def _subscriptions(client: Redis) -> set[str]:
    """Return the ids of the connections that have subscribed to something."""
    lines = str(await raw(client, "CLIENT LIST", "TYPE", "pubsub")).splitlines()
    return {line.partition(" ")[0] for line in lines if line}


class Fill(ServerFault):
    """Writes until the server is at `maxmemory`: it then refuses writes, or evicts others' keys."""

    kind: ClassVar[str] = "fill"

    async def inject(self) -> None:
        """Set limit and policy, and write until the server feels it."""
        self._old: dict[str, dict[str, str]] = {}
        self._tags: dict[str, str] = {}
        self._written: dict[str, int] = {}
        await self.each(self._fill)

    async def _fill(self, node: Node) -> None:
        self._tags[node.name] = await self._tag(node)
        said = await command(node, lambda c: self._limit_and_write(c, node), socket_timeout=BULK_S)
        size = self._written[node.name] * len(PIECE) // 2**20
        self.said[node.name] = f"{node.name}, with {size} MiB more under maxmemory, {said}"

    async def _limit_and_write(self, client: Redis, node: Node) -> str:
        """Write until the server refuses or evicts keys of others; return which."""
        others, room = await _others(client), self.spec["room_mb"] * 2**20
        evicted = await statistic(client, "evicted_keys")
        await self._limit(client, node, room)
        for number in range(0, MOST_FILLED * room // len(PIECE), PIECES):
            if refusal := await self._write(client, node, number):
                return f"refuses writes: {refusal}"
            count = await statistic(client, "evicted_keys") - evicted
            if count and (lost := len(others - await _others(client))):
                return f"evicted {count} keys; {lost} of {len(others)} from before are gone"
        raise FaultError(f"{node.name} is full, and neither refuses writes nor evicts others' keys")

    async def _limit(self, client: Redis, node: Node, room: int) -> None:
        self._old[node.name] = await read_settings(client, MEMORY)
        used = int((await client.info("memory"))["used_memory"])
        policy = self.spec["policy"]
        await write_settings(client, {MEMORY[0]: str(used + room), MEMORY[1]: policy})

    async def _write(self, client: Redis, node: Node, first: int) -> str:
        """Write some pieces; return why the server refuses one, or nothing."""
        async with client.pipeline(transaction=False) as pipe:
            for number in range(first, first + PIECES):
                pipe.set(self._name(node, number), PIECE)
            self._written[node.name] = first + PIECES
            answers = await pipe.execute(raise_on_error=False)
        if refusals := [answer for answer in answers if isinstance(answer, OutOfMemoryError)]:
            return str(refusals[0])
        if errors := [answer for answer in answers if isinstance(answer, Exception)]:
            raise errors[0]
        return ""

    def _name(self, node: Node, number: int) -> str:
        return f"{NAMES}:{{{self._tags[node.name]}}}:{number}"

    async def _tag(self, node: Node) -> str:
        """Return a hash tag whose slot the node serves."""
        if self.deployment.topology != "cluster":
            return ""
        members = await cluster_members(self.deployment)
        own = next(m for m in members if m.address == node.address)
        return next((str(n) for n in range(100_000) if own.holds(slot_of(str(n)))), "")

    async def heal(self) -> None:
        """Set the old values again and delete what it wrote."""
        await self.each(self._empty)

    async def _empty(self, node: Node) -> None:
        async def empty(client: Redis) -> None:
            await write_settings(client, self._old.get(node.name, {}))
            names = [self._name(node, n) for n in range(self._written.get(node.name, 0))]
            for first in range(0, len(names), CHUNK):
                await client.unlink(*names[first : first + CHUNK])

        await command(node, empty)

    async def confirm_heal(self) -> str:
        """Prove that the limits are the old ones and a write is taken."""
        return "; ".join(await asyncio.gather(*map(self._takes, self.nodes)))

    async def _takes(self, node: Node) -> str:
        async def take(client: Redis) -> dict[str, str]:
            await client.set(self._name(node, 0), "1")
            await client.unlink(self._name(node, 0))
            return await read_settings(client, MEMORY)

        now = await command(node, take)
        if now != self._old[node.name]:
            raise FaultError(f"{node.name}: {now}, expected {self._old[node.name]}")
        return f"{node.name} takes writes; maxmemory {now['maxmemory']}, {now['maxmemory-policy']}"


async def _others(client: Redis) -> set[str]:
    """Return the names of the keys that this fault did not write."""
    found = {str(name) async for name in client.scan_iter(count=1000)}
    return {name for name in found if not name.startswith(NAMES)}


class ConnectStorm(ServerFault):
    """Opens connections and keeps them: the server comes to `maxclients`, or near it."""

    kind: ClassVar[str] = "connect-storm"

    async def inject(self) -> None:
        """Open them, as many as the server takes."""
        self._held: list[asyncio.StreamWriter] = []
        await self.each(self._open)

    async def _open(self, node: Node) -> None:
        refused, count = 0, self.spec["connections"]
        async with seat_on(node) as seat:
            before = await statistic(seat, "rejected_connections")
            for first in range(0, count, CHUNK):
                group = (self._one(node) for _ in range(min(CHUNK, count - first)))
                refused += sum(await asyncio.gather(*group))
            more = await statistic(seat, "rejected_connections") - before
            limit = (await read_settings(seat, ("maxclients",)))["maxclients"]
        if refused == count:
            raise FaultError(f"{node.name} took none of {count} connections")
        self.said[node.name] = (
            f"{node.name} took {count - refused} connections and refused {refused} "
            f"(rejected_connections +{more}, maxclients {limit})"
        )

    async def _one(self, node: Node) -> bool:
        """Open one connection and keep it; tell whether it was refused."""
        refusal, writer = await refusal_of(node)
        self._held += [writer] if writer else []
        return bool(refusal)

    async def heal(self) -> None:
        """Close them all."""
        for writer in self._held:
            writer.close()
        closing = (writer.wait_closed() for writer in self._held)
        await asyncio.gather(*closing, return_exceptions=True)
