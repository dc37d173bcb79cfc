"""Cluster mode: the slot map, kept fresh over one connection to any reachable node."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from redis.crc import key_slot
from redis.exceptions import ResponseError

from runtime.redis.errors import RedisDenied, RedisUnavailable, explain
from runtime.redis.topology import ASK_TIMEOUT_S, Key, Topology, log
from runtime.redis.wire import Address, Dial, Wire

SLOTS = 16384
PERIOD_S = 0.4


@dataclass(frozen=True)
class Owner:
    """A primary and the configuration epoch of its claim; `node` is its id in the cluster."""

    address: Address
    epoch: int
    node: str = ""


Claim = tuple[Owner, tuple[tuple[int, int], ...]]


def _slots(words: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return the (first, last) ranges; `[…]` marks a migrating slot, which its owner keeps."""
    ranges = []
    for word in words:
        if not word.startswith("["):
            first, _, last = word.partition("-")
            ranges.append((int(first), int(last or first)))
    return tuple(ranges)


def parse_nodes(text: str, by_name: bool = False) -> tuple[list[Claim], set[Address]]:
    """Return the primaries' claims and the addresses of all nodes, from CLUSTER NODES.

    `by_name`: nodes that announce a host name are addressed by it, as TLS certificates want.
    """
    claims: list[Claim] = []
    nodes: set[Address] = set()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8 or "noaddr" in words[2] or "handshake" in words[2]:
            continue
        place, _, names = words[1].partition(",")
        host, _, port = place.split("@")[0].rpartition(":")
        if by_name:
            host = names.split(",")[0] or host
        if not host:
            continue
        nodes.add((host, int(port)))
        if "master" in words[2]:
            owner = Owner((host, int(port)), int(words[6]), words[0])
            claims.append((owner, _slots(words[8:])))
    return claims, nodes


def in_minority(text: str) -> bool:
    """Tell whether the node that gave CLUSTER NODES reaches no majority of the primaries.

    It is cut off then, and learns of no failover for as long as that lasts.
    """
    flags = [words[2] for words in map(str.split, text.splitlines()) if len(words) > 8]
    primaries = [each for each in flags if "master" in each]
    reached = sum("fail" not in each for each in primaries)
    return 0 < len(primaries) >= 2 * reached


def _ids(text: str) -> set[str]:
    """Return the ids of all nodes in CLUSTER NODES, those that it lost sight of too."""
    return {words[0] for words in map(str.split, text.splitlines()) if words}


class SlotMap:
    """Slot → owner, where a claim with a lower epoch never replaces a newer one."""

    def __init__(self) -> None:
        self.owners: list[Owner | None] = [None] * SLOTS

    def merge(self, claims: Sequence[Claim]) -> bool:
        """Take over the claims; return whether a slot changed from one owner to another."""
        moved = False
        for owner, ranges in claims:
            for first, last in ranges:
                for slot in range(first, last + 1):
                    known = self.owners[slot]
                    if known is None or owner.epoch >= known.epoch:
                        moved |= known is not None and known.address != owner.address
                        self.owners[slot] = owner
        return moved

    def is_of(self, members: Collection[str]) -> bool:
        """Tell whether one of these nodes owns a slot here, as far as anything is known."""
        known = {owner.node for owner in self.owners if owner}
        return not known or not known.isdisjoint(members)


class Cluster(Topology):
    """Several primaries; hash slots say which one serves a key."""

    mode = "cluster"

    def __init__(self, nodes: Sequence[Address], dial: Dial) -> None:
        super().__init__(dial)
        self._seeds = list(dict.fromkeys(nodes))
        self._nodes = list(self._seeds)
        self._map = SlotMap()
        self._last: list[Claim] = []

    def current(self, key: Key) -> Address | None:
        """Return the owner of the key's slot."""
        owner = self._map.owners[key_slot(key.encode() if isinstance(key, str) else key)]
        return owner.address if owner else None

    def shard(self, key: Key) -> str:
        """Return the name of the primary that serves the key."""
        address = self.current(key)
        return f"{address[0]}:{address[1]}" if address else "unknown"

    def primaries(self) -> list[Address]:
        """Return every node that owns slots, as last known."""
        return sorted({owner.address for owner in self._map.owners if owner})

    def _watchers(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._watch(), name="cluster slots")]

    async def _watch(self) -> None:
        wire: Wire | None = None
        try:
            while True:
                try:
                    if wire is None or not wire.is_open:
                        wire = await self._any_node()
                    text = str(await wire.call("CLUSTER", "NODES", within=ASK_TIMEOUT_S))
                    if not self._learn(text) or in_minority(text):
                        wire.drop()  # the next one in turn may know more
                except (RedisDenied, ResponseError) as error:  # the next try will end the same way
                    self._trouble = {self._nodes[-1]: explain(error)}
                except RedisUnavailable as error:
                    self._trouble = {self._nodes[-1]: error.reason}
                    await asyncio.sleep(self.dial.pause(0))
                    self._poke.set()  # try the next node at once, after the pause for bursts
                except Exception:  # a strange answer must not end the watch
                    log.exception("cluster watch")
                await self._pause(PERIOD_S)
        finally:
            if wire:
                wire.drop()

    async def _any_node(self) -> Wire:
        """Open a connection to the next node in turn."""
        address = self._nodes.pop(0)
        self._nodes.append(address)
        return await self.dial_node(address, "cluster", decode=True)

    def _learn(self, text: str) -> bool:
        """Take over what a node says; False when it knows of no slot.

        It has left the cluster then, or was reset: it will hear of nothing, and its list of
        nodes is not the cluster's.
        """
        claims, nodes = parse_nodes(text, by_name=self.dial.tls is not None)
        if not any(ranges for _, ranges in claims):
            return False
        self._nodes += [n for n in sorted(nodes) if n not in self._nodes]
        keep = nodes | set(self._seeds)
        self._nodes = [n for n in self._nodes if n in keep]
        if claims != self._last:
            self._last = claims
            self._merge(claims, anew=not (in_minority(text) or self._map.is_of(_ids(text))))
        return True

    def _merge(self, claims: Sequence[Claim], *, anew: bool) -> None:
        """Update the map; `anew`: the cluster is another one, whose epochs began from the start."""
        if anew:
            log.warning("the nodes form another cluster than before")
            self._map = SlotMap()
        if self._map.merge(claims) or anew:
            log.warning("slots moved to another primary")
            self._changed()
        self._known.set()

    def _unknown(self) -> str:
        return f"no node of {len(self._nodes)} tells the slot map{self._why()}"
