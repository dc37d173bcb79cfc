"""Who is what right now: roles as nodes and sentinels tell them over direct connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.crc import key_slot

from harness.deploy.direct import direct
from harness.deploy.model import Deployment, Node

T = TypeVar("T")
Address = tuple[str, int]

ASK_S = 1.0  # one question to one node; a hung node must not delay the others' answers


@dataclass(frozen=True)
class Role:
    """A node's answer to ROLE. `link` is a replica's link to its primary (`connected`)."""

    name: str  # primary, replica or sentinel
    link: str = ""
    primary: Address | None = None


@dataclass(frozen=True)
class Member:
    """One line of CLUSTER NODES: a node as another one sees it."""

    identity: str
    address: Address
    flags: frozenset[str]
    primary: str  # identity of its primary, empty for a primary
    epoch: int
    slots: tuple[tuple[int, int], ...]

    @property
    def serves(self) -> bool:
        """Tell whether it is a primary with slots that nobody holds to be down."""
        return "master" in self.flags and bool(self.slots) and not self.flags & {"fail", "fail?"}

    @property
    def is_up(self) -> bool:
        """Tell whether nobody holds it to be down, and its address is known."""
        return not self.flags & {"fail", "fail?", "noaddr", "handshake"}

    def holds(self, slot: int) -> bool:
        """Tell whether the slot is one of its own."""
        return any(first <= slot <= last for first, last in self.slots)


def text(value: Any) -> str:
    """Return a reply's string, whether the client decodes replies or not."""
    return value.decode() if isinstance(value, bytes) else str(value)


def parse_role(reply: Sequence[Any]) -> Role:
    """Read the reply of ROLE."""
    kind = text(reply[0])
    if kind == "slave":
        return Role("replica", text(reply[3]), (text(reply[1]), int(reply[2])))
    return Role("primary" if kind == "master" else "sentinel")


def parse_cluster_nodes(reply: Any) -> list[Member]:
    """Read the text of CLUSTER NODES; slots that are being moved are left out."""
    return [_member(line.split()) for line in text(reply).splitlines() if line.strip()]


def _member(fields: list[str]) -> Member:
    host, _, port = fields[1].partition("@")[0].rpartition(":")
    return Member(
        identity=fields[0],
        address=(host, int(port)),
        flags=frozenset(fields[2].split(",")),
        primary="" if fields[3] == "-" else fields[3],
        epoch=int(fields[6]),
        slots=tuple(_slots(part) for part in fields[8:] if not part.startswith("[")),
    )


def _slots(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last or first)


async def ask(node: Node, question: Callable[[Redis], Awaitable[T]]) -> T | None:
    """Return one node's answer over a direct connection; None when there is none in time."""
    client = direct(node)
    try:
        return await asyncio.wait_for(question(client), ASK_S)
    except Exception:  # a node that cannot answer is an answer here
        return None
    finally:
        await client.aclose()


async def ask_all(nodes: Iterable[Node], question: Callable[[Redis], Awaitable[T]]) -> dict[str, T]:
    """Return the answers by node name, of those that answered."""
    nodes = list(nodes)
    answers = await asyncio.gather(*(ask(node, question) for node in nodes))
    return {n.name: a for n, a in zip(nodes, answers, strict=True) if a is not None}


async def raw(client: Redis, command: str, *arguments: str) -> Any:
    """Send a command and return its reply as the server wrote it, not as redis-py parses it."""
    client.set_response_callback(command, _unparsed)
    return await client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]  # redis-py is untyped


def _unparsed(response: Any, **_: Any) -> Any:
    return response


async def read_role(client: Redis) -> Role:
    """Ask ROLE."""
    return parse_role(await raw(client, "ROLE"))


async def read_cluster(client: Redis) -> list[Member]:
    """Ask CLUSTER NODES; redis-py's parser drops the config epochs."""
    return parse_cluster_nodes(await raw(client, "CLUSTER NODES"))


async def sentinel_primary(deployment: Deployment) -> str | None:
    """Return the node that most sentinels name and that itself says it is a primary."""
    answers = await ask_all(deployment.sentinels, lambda c: _named_primary(c, deployment.service))
    if not answers:
        return None
    address, votes = Counter(answers.values()).most_common(1)[0]
    name = name_of(deployment, address)
    if name is None or votes * 2 <= len(deployment.sentinels):
        return None
    role = await ask(deployment.node(name), read_role)
    return name if role is not None and role.name == "primary" else None


async def _named_primary(client: Redis, service: str) -> Address:
    host, port = await raw(client, "SENTINEL GET-MASTER-ADDR-BY-NAME", service)
    return text(host), int(port)


async def cluster_members(deployment: Deployment) -> list[Member]:
    """Return the cluster as the node with the newest view of it sees it; empty when none answers.

    A node that was away answers with an old view; the highest config epoch is the newest.
    """
    views = (await ask_all(deployment.nodes, read_cluster)).values()
    return max(views, key=lambda view: max((m.epoch for m in view), default=0), default=[])


def name_of(deployment: Deployment, address: Address) -> str | None:
    """Return the name of the node at an announced address."""
    return next((n.name for n in deployment.nodes if n.address == address), None)


def slot_of(key: str) -> int:
    """Return the cluster slot of a key, hash tags respected."""
    return int(key_slot(key.encode()))
