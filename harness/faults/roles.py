"""Roles → nodes and workers, resolved at injection over connections that no fault touches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from harness.choices import Choices
from harness.deploy.model import Deployment
from harness.faults.base import Fault, FaultError
from harness.faults.sockets import established, provider_address, socket_inodes
from harness.faults.views import (
    Member,
    ask_all,
    cluster_members,
    name_of,
    read_role,
    sentinel_primary,
    slot_of,
)
from harness.waiting import WaitTimeout, wait_for

SETTLE_S = 5.0  # a role may be nobody's for a moment, e.g. during an election


async def resolve_nodes(role: str, deployment: Deployment, choices: Choices) -> list[str]:
    """Return the names of the nodes that have a role of vocabulary.NODE_ROLES right now.

    Waits up to 5 s while nobody has it; raises FaultError then.
    """

    async def found() -> list[str]:
        return await _resolve(role, deployment, choices)

    try:
        return await wait_for(found, SETTLE_S, f"a node with role {role}")
    except WaitTimeout as error:
        raise FaultError(str(error)) from error


async def _resolve(role: str, deployment: Deployment, choices: Choices) -> list[str]:
    if role == "all-nodes":
        return [node.name for node in deployment.nodes]
    if role in ("a-sentinel", "all-sentinels"):
        names = [node.name for node in deployment.sentinels]
        return names if role == "all-sentinels" else choose(names, choices)
    if deployment.topology == "cluster":
        return cluster_role(role, deployment, await cluster_members(deployment), choices)
    if role == "a-minority":
        sentinels = [node.name for node in deployment.sentinels]
        found = await _primary(deployment)
        return [*found, *choose(sentinels, choices)] if found else []
    if "replica" in role:
        replicas = await _replicas(deployment)
        return replicas if role == "all-replicas" else choose(replicas, choices)
    return await _primary(deployment)  # `primary`, and whatever purpose: one node serves all


async def _primary(deployment: Deployment) -> list[str]:
    if deployment.topology == "standalone":
        return [deployment.nodes[0].name]
    name = await sentinel_primary(deployment)
    return [] if name is None else [name]


async def _replicas(deployment: Deployment) -> list[str]:
    roles = await ask_all(deployment.nodes, read_role)
    return sorted(name for name, role in roles.items() if role.name == "replica")


def cluster_role(
    role: str, deployment: Deployment, members: Sequence[Member], choices: Choices
) -> list[str]:
    """Return the nodes of a role in one view of a cluster."""
    if role.startswith("primary-of:"):
        slot = slot_of(deployment.target.key(role.removeprefix("primary-of:")))
        return _names(deployment, [m for m in members if m.serves and m.holds(slot)])
    if role == "a-minority":
        return _cluster_minority(deployment, members, choices)
    if role == "a-primary":
        return choose(_names(deployment, [m for m in members if m.serves]), choices)
    replicas = _names(deployment, [m for m in members if "slave" in m.flags and m.is_up])
    return replicas if role == "all-replicas" else choose(replicas, choices)


def _cluster_minority(
    deployment: Deployment, members: Sequence[Member], choices: Choices
) -> list[str]:
    """Return a primary and the replica of another one: no majority, and no copy of its data."""
    primary = choose(_names(deployment, [m for m in members if m.serves]), choices)
    own = {m.identity for m in members if name_of(deployment, m.address) in primary}
    others = [m for m in members if "slave" in m.flags and m.is_up and m.primary not in own]
    replica = choose(_names(deployment, others), choices)
    return [*primary, *replica] if primary and replica else []


def _names(deployment: Deployment, members: Sequence[Member]) -> list[str]:
    names = (name_of(deployment, member.address) for member in members)
    return sorted(name for name in names if name is not None)


def choose(names: list[str], choices: Choices) -> list[str]:
    """Return one of the names: always the first choice, however often it is asked again."""
    return [names[int(choices.at(1) * len(names))]] if names else []


async def aimed_workers(fault: Fault) -> list[int]:
    """Return the workers that a fault's role means right now; the remark becomes a note."""
    role = fault.spec["workers"]
    workers, remark = await resolve_workers(role, fault.deployment, fault.choices)
    if remark:
        fault.context.notes.append(remark)
    return workers


async def resolve_workers(
    role: str, deployment: Deployment, choices: Choices
) -> tuple[list[int], str]:
    """Return worker numbers that have a worker role right now, and a remark (or nothing)."""
    numbers = [worker.number for worker in deployment.workers]
    if role == "all-workers":
        return numbers, ""
    if role.startswith("worker:"):
        return [int(role.removeprefix("worker:"))], ""
    if role == "worker-with-most-tasks":
        return await _busiest(deployment, choices)
    return [_one(numbers, choices)], ""


def _one(numbers: list[int], choices: Choices) -> int:
    return numbers[int(choices.at(2) * len(numbers))]


async def _busiest(deployment: Deployment, choices: Choices) -> tuple[list[int], str]:
    """Find the worker with the most streams: each holds a connection to the provider."""
    counts = await asyncio.to_thread(streams_of_workers, deployment)
    if not any(counts.values()):
        worker = _one(list(counts), choices)
        return [worker], f"no worker holds a stream of the provider: took worker {worker} by seed"
    worker = max(sorted(counts), key=lambda number: counts[number])
    return [worker], f"connections to the provider by worker: {counts}"


def streams_of_workers(deployment: Deployment) -> dict[int, int]:
    """Return how many established connections to the provider each worker holds.

    Works from outside for any target; connections kept alive after a stream count too.
    """
    inodes = established({provider_address(deployment.provider_url)})
    return {
        worker.number: len(socket_inodes(worker.process.pid) & inodes.keys())
        for worker in deployment.workers
        if worker.process is not None
    }
