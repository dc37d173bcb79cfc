"""The switch: the instant a new primary could serve, seen over connections that no fault touches.

Sentinel: the first `+switch-master` on any sentinel. Cluster: the first node that shows the
promoted primary. Standalone: the first answered PING after a restart.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from harness.deploy.direct import direct
from harness.deploy.model import Deployment, Node, Process
from harness.faults.views import Address, Member, name_of, read_cluster, text
from harness.history.writer import HistoryWriter
from harness.probes.base import Probe, close_quietly
from harness.probes.timing import ticks

FAST_S = 0.05  # while a node is away
EVERY = 20  # otherwise every twentieth tick: once a second
AGAIN_S = 0.1  # before a lost connection to a sentinel is opened again
LISTEN_S = 1.0
CHANNEL = "+switch-master"


class SwitchProbe(Probe):
    """Records `switch` once per new primary; one task per watched node."""

    name = "switch"

    def __init__(self, deployment: Deployment, writer: HistoryWriter) -> None:
        super().__init__(deployment, writer)
        self._clients: dict[str, Redis] = {}

    async def start(self) -> None:
        """Begin to watch every node that can tell."""
        for node in self.watched():
            self._clients[node.name] = direct(node)
            self.spawn(self.observe(node, self._clients[node.name]))

    async def watch(self) -> None:
        """Do nothing: every node has its own task."""

    async def stop(self) -> None:
        """Close the connections."""
        await super().stop()
        await asyncio.gather(*(close_quietly(c.aclose()) for c in self._clients.values()))

    def watched(self) -> list[Node]:
        """Return the nodes that can tell."""
        return self.deployment.nodes

    @abstractmethod
    async def observe(self, node: Node, client: Redis) -> None:
        """Watch one node until cancelled."""

    def tell(self, node: str, observer: str, why: str) -> None:
        """Record the switch."""
        self.writer.record("switch", node=node, observer=observer, why=why)


class RestartWatch(SwitchProbe):
    """Standalone: PINGs fast from the process's end until its successor answers."""

    async def observe(self, node: Node, client: Redis) -> None:
        """Notice a new process; the first PING that it answers is the switch."""
        served: Process | None = node.process
        async for _ in ticks(FAST_S):
            process = node.process
            if process is None or process is served or process.exit_status is not None:
                continue
            if await _pong(client):
                served = process
                self.tell(node.name, node.name, "first PING answered after the restart")


class SentinelWatch(SwitchProbe):
    """Sentinel: subscribed to every sentinel; the first that announces a new primary wins."""

    _primary: Address | None = None

    def watched(self) -> list[Node]:
        """Return the sentinels."""
        return self.deployment.sentinels

    async def observe(self, node: Node, client: Redis) -> None:
        """Listen; subscribe anew whenever the connection is lost."""
        while True:
            pubsub = client.pubsub()
            try:
                await pubsub.subscribe(CHANNEL)
                while True:
                    message = await pubsub.get_message(
                        ignore_subscribe_messages=True, timeout=LISTEN_S
                    )
                    if message is not None:
                        self._switched(node, text(message["data"]))
            except Exception:  # the sentinel is down or hung: another one may tell
                await asyncio.sleep(AGAIN_S)
            finally:
                await close_quietly(pubsub.aclose())  # type: ignore[no-untyped-call]  # redis-py is untyped

    def _switched(self, sentinel: Node, message: str) -> None:
        service, *addresses = message.split()
        new = (addresses[2], int(addresses[3]))
        if service != self.deployment.service or new == self._primary:
            return
        self._primary = new
        name = name_of(self.deployment, new) or f"{new[0]}:{new[1]}"
        self.tell(name, sentinel.name, f"{CHANNEL} {message}")


class SlotOwners:
    """Who serves which slots, as far as any node has shown; newer config epochs win."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, int], tuple[int, Address]] = {}

    def update(self, members: Iterable[Member]) -> dict[Address, list[tuple[int, int]]]:
        """Take in one node's view; return the owners that are new, with their slots."""
        changed: dict[Address, list[tuple[int, int]]] = {}
        for member in members:
            for slots in member.slots if "master" in member.flags else ():
                known = self._owners.get(slots)
                if known is not None and member.epoch <= known[0]:
                    continue
                self._owners[slots] = (member.epoch, member.address)
                if known is not None and known[1] != member.address:
                    changed.setdefault(member.address, []).append(slots)
        return changed


class ClusterWatch(SwitchProbe):
    """Cluster: asks every node for its view, replicas fast while any node is held for down.

    Only a replica can be promoted, and it shows itself first.
    """

    def __init__(self, deployment: Deployment, writer: HistoryWriter) -> None:
        super().__init__(deployment, writer)
        self._owners = SlotOwners()
        self._away: set[str] = set()  # they do not answer
        self._doubting: set[str] = set()  # they hold somebody for down: cut off from each other
        self._primaries: set[str] = set()

    async def observe(self, node: Node, client: Redis) -> None:
        """Ask one node on a timetable; hung nodes delay only their own task."""
        async for tick in ticks(FAST_S):
            fast = node.name not in self._primaries and self._someone_is_away()
            if tick % EVERY and not fast:
                continue
            try:
                members = await read_cluster(client)
            except Exception:  # any failure means the node is away
                self._away.add(node.name)
            else:
                self._away.discard(node.name)
                self._compare(node, members)

    def _someone_is_away(self) -> bool:
        nodes = self.deployment.nodes
        return bool(self._away or self._doubting) or any(
            n.process and n.process.exit_status is not None for n in nodes
        )

    def _compare(self, observer: Node, members: list[Member]) -> None:
        myself = next(member for member in members if "myself" in member.flags)
        keep = self._primaries.add if "master" in myself.flags else self._primaries.discard
        keep(observer.name)
        doubt = self._doubting.discard if all(m.is_up for m in members) else self._doubting.add
        doubt(observer.name)
        for address, slots in self._owners.update(members).items():
            name = name_of(self.deployment, address) or f"{address[0]}:{address[1]}"
            ranges = ", ".join(f"{first}-{last}" for first, last in slots)
            self.tell(name, observer.name, f"shown as primary of slots {ranges}")


def switch_probe(deployment: Deployment, writer: HistoryWriter) -> SwitchProbe:
    """Return the probe for the deployment's topology."""
    kinds: dict[str, type[SwitchProbe]] = {
        "standalone": RestartWatch,
        "sentinel": SentinelWatch,
        "cluster": ClusterWatch,
    }
    return kinds[deployment.topology](deployment, writer)


async def _pong(client: Redis) -> Any:
    try:
        return await client.ping()
    except Exception:  # down or loading: not yet
        return False
