"""Slots of a cluster move to another primary under load, as in a resharding, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from redis.asyncio import Redis

from harness.clock import monotonic
from harness.deploy.model import Node
from harness.faults.base import FaultError
from harness.faults.commands import command
from harness.faults.context import NotInjectedError
from harness.faults.proofs import expect
from harness.faults.server import ServerFault
from harness.faults.views import (
    Member,
    ask_all,
    cluster_members,
    name_of,
    raw,
    read_cluster,
    slot_of,
)

AGREED_S = 20.0  # all nodes know the new owner; six handshakes a round on a busy machine
MIGRATE_MS = 5000
BATCH = 100  # keys of one MIGRATE
PURPOSE = "primary-of:"


class SlotMove(ServerFault):
    """`CLUSTER SETSLOT` and `MIGRATE`: while slots are half moved, clients are sent on by ASK."""

    kind: ClassVar[str] = "slot-move"

    def available(self) -> str | None:
        """Return why it cannot run: only a cluster has slots."""
        return None if self.deployment.topology == "cluster" else "needs topology cluster"

    async def inject(self) -> None:
        """Move the slots; those of the role's purpose come first."""
        self._began, self._keys = monotonic(), 0
        members = await cluster_members(self.deployment)
        source = next((m for m in members if m.address == self.nodes[0].address), None)
        others = [m for m in members if m.serves and m is not source]
        if source is None or not source.serves or not others:
            raise NotInjectedError(f"{self.nodes[0].name} is no primary whose slots could move")
        self._slots = chosen(source, self._first(source), self.spec["slots"])
        self._home = source.identity
        goal = sorted(others, key=lambda m: m.address)[int(self.choices.at(3) * len(others))]
        self._goal = goal.identity
        await self._move(source, goal, self.spec["open_s"])

    def _first(self, source: Member) -> int:
        target = self.spec["target"]
        if target.startswith(PURPOSE):
            return slot_of(self.deployment.target.key(target.removeprefix(PURPOSE)))
        return source.slots[0][0]

    async def _move(self, source: Member, goal: Member, open_s: float) -> None:
        """Move slots from one primary to another; between, keys are where ASK says for a while."""
        there, here = self._node(goal), self._node(source)
        await self._set(there, "IMPORTING", source.identity)
        await self._set(here, "MIGRATING", goal.identity)
        self._keys += await self._migrate(here, there)
        await asyncio.sleep(open_s)
        await self._migrate(here, there)
        primaries = [m for m in await cluster_members(self.deployment) if m.serves]
        rest = [self._node(m) for m in primaries if m.identity != goal.identity]
        for node in (there, *rest):  # the new owner first: it must not be told by hearsay
            await self._set(node, "NODE", goal.identity)

    async def _set(self, node: Node, *words: str) -> None:
        """Tell a node the new state of all the slots."""

        async def tell(client: Redis) -> None:
            for slot in self._slots:
                await raw(client, "CLUSTER SETSLOT", str(slot), *words)

        await command(node, tell)

    async def _migrate(self, here: Node, there: Node) -> int:
        """Send all keys of the slots; return how many there were."""

        async def send(client: Redis) -> int:
            sent = 0
            for slot in self._slots:
                while keys := await raw(client, "CLUSTER GETKEYSINSLOT", str(slot), str(BATCH)):
                    to = (there.host, str(there.port), "", "0", str(MIGRATE_MS))
                    await raw(client, "MIGRATE", *to, *_login(there), "KEYS", *keys)
                    sent += len(keys)
            return sent

        return await command(here, send, socket_timeout=2 * MIGRATE_MS / 1000)

    def _node(self, member: Member) -> Node:
        if (name := name_of(self.deployment, member.address)) is None:
            raise FaultError(f"no node of the deployment is at {member.address}")
        return self.deployment.node(name)

    async def confirm(self) -> str:
        """Prove that every node knows the new owner."""
        where = await self._agreed(self._goal)
        first = ", ".join(map(str, self._slots[:3])) + (", …" if len(self._slots) > 3 else "")
        what = f"{len(self._slots)} slots ({first}) with {self._keys} keys"
        return f"{what} moved {where} after {monotonic() - self._began:.2f} s"

    async def _agreed(self, identity: str) -> str:
        """Wait until all nodes hold this one to be the slots' owner; return from where to where."""

        async def agreed() -> str:
            views = await ask_all(self.deployment.nodes, read_cluster)
            owners = {self._owner(view) for view in views.values()}
            whole = len(views) == len(self.deployment.nodes)
            return "yes" if whole and owners == {identity} else ""

        await expect(agreed, AGREED_S, "all nodes agree on the slots' owner")
        names = {m.identity: self._node(m).name for m in await cluster_members(self.deployment)}
        return f"from {names[self._home]} to {names[identity]}; all nodes agree"

    def _owner(self, view: Sequence[Member]) -> str:
        """Return who has all the slots in one view; nothing when several have."""
        found = (m for m in view if m.serves and all(map(m.holds, self._slots)))
        return next((m.identity for m in found), "")

    async def heal(self) -> None:
        """Move them back to the primary that had them, or to its successor."""
        members = await cluster_members(self.deployment)
        owner = find(members, lambda m: m.identity == self._owner(members))
        old = find(members, lambda m: m.identity == self._home)
        home = old if old.serves else find(members, lambda m: m.identity == old.primary)
        self._back = home.identity
        if owner.identity != home.identity:
            await self._move(owner, home, 0.0)
        else:
            await self._undo(find(members, lambda m: m.identity == self._goal), home)

    async def _undo(self, goal: Member, home: Member) -> None:
        """Take back a move that did not get through: keys are back, nobody is told ASK."""
        there, here = self._node(goal), self._node(home)
        await self._migrate(there, here)
        await self._set(there, "STABLE")
        await self._set(here, "STABLE")

    async def confirm_heal(self) -> str:
        """Prove that every node knows the old owner again."""
        await self._agreed(self._back)
        return f"{len(self._slots)} slots are back at {self.nodes[0].name}; all nodes agree"


def _login(node: Node) -> tuple[str, ...]:
    """Return the words by which one node logs in at another."""
    user, password = node.login.get("username"), node.login.get("password")
    if user and password:
        return "AUTH2", user, password
    return ("AUTH", password) if password else ()


def chosen(source: Member, first: int, count: int) -> list[int]:
    """Return `count` slots of a primary from `first` on, and round to its lowest."""
    held = [slot for low, high in source.slots for slot in range(low, high + 1)]
    later = [slot for slot in held if slot >= first]
    return [*later, *held[: len(held) - len(later)]][:count]


def find(members: Sequence[Member], fits: Callable[[Member], Any]) -> Member:
    """Return the first member that fits; raise FaultError when none does."""
    if (found := next(filter(fits, members), None)) is None:
        raise FaultError("the slots' owner is not known: is a part of the cluster down?")
    return found
