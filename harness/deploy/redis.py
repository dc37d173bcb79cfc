"""Redis standalone, Sentinel and Cluster on a host, strictly healthy.

Sentinels and cluster nodes start with prepared state (identities, peers, slots), which saves the
seconds of mutual discovery; the health checks read flags, because counts are right before any
connection is.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from harness.deploy import redis_files as files
from harness.deploy.direct import direct
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Host, Node
from harness.deploy.security import make_security
from harness.deploy.service import log_tail
from harness.errors import UserError
from harness.scenario import Redis
from harness.waiting import WaitTimeout, wait_for

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

T = TypeVar("T")

NODES = {"standalone": 1, "sentinel": 3, "cluster": 6}
SENTINELS = {"standalone": 0, "sentinel": 3, "cluster": 0}
PRIMARIES = 3  # of the cluster; node i + 3 replicates node i
HEALTHY_S = 20.0
ROLE_S = 20.0  # Sentinel takes up to 10 s to move a node that came back
ASK_S = 1.0


async def start_redis(host: Host, deployment: Deployment, redis: Redis, run: RunFolder) -> None:
    """Place and launch the topology of `deployment`; return when it is healthy."""
    await place_redis(host, deployment, redis, run)
    await launch_redis(deployment, redis)


async def place_redis(host: Host, deployment: Deployment, redis: Redis, run: RunFolder) -> None:
    """Fill the nodes and sentinels of `deployment`, make their secrets; nothing is started.

    Raises MissingPart without what the host needs.
    """
    deployment.host = host
    topology = deployment.topology
    deployment.nodes = [_node(deployment, run, "redis", i) for i in range(NODES[topology])]
    deployment.sentinels = [
        _node(deployment, run, "sentinel", i) for i in range(SENTINELS[topology])
    ]
    servers = [*deployment.nodes, *deployment.sentinels]
    security, _ = await asyncio.gather(make_security(redis, deployment, run), host.prepare(servers))
    deployment.security = security
    for node in servers:
        security.equip(node)


async def launch_redis(deployment: Deployment, redis: Redis) -> None:
    """Start what was placed; return when it is healthy.

    Raises UserError with the end of its log for a server that dies or does not become healthy.
    """
    topology = deployment.topology
    start = {"standalone": _standalone, "sentinel": _sentinel, "cluster": _cluster}[topology]
    await start(deployment, redis)


def _node(deployment: Deployment, run: RunFolder, kind: str, number: int) -> Node:
    directory = (run.data / f"{kind}-{number}").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)  # its files may hold passwords, also those that Redis writes anew
    return _host(deployment).node(deployment.subnet, kind, number, directory)


def _host(deployment: Deployment) -> Host:
    assert deployment.host is not None, "start_redis comes first"
    return deployment.host


async def _standalone(deployment: Deployment, redis: Redis) -> None:
    await _start_node(deployment, deployment.nodes[0], redis, None)


async def _sentinel(deployment: Deployment, redis: Redis) -> None:
    """Start primary, replicas, sentinels in this order.

    A sentinel that sees the primary before its replicas learns of them only 10 s later, and a
    replica that finds no primary tries again only after a second.
    """
    primary, *replicas = deployment.nodes
    await _start_node(deployment, primary, redis, None)
    await asyncio.gather(
        *(_start_node(deployment, node, redis, primary.address) for node in replicas)
    )
    await asyncio.gather(*(_become(deployment, node, _is_linked) for node in replicas))
    for node in deployment.sentinels:
        files.write_sentinel(node, deployment, redis)
    await asyncio.gather(*(_launch(deployment, node) for node in deployment.sentinels))
    await asyncio.gather(
        *(_become(deployment, node, _sees_everybody) for node in deployment.sentinels)
    )


async def _cluster(deployment: Deployment, redis: Redis) -> None:
    for node in deployment.nodes:
        files.write_cluster_state(node, deployment.nodes, PRIMARIES)
    await asyncio.gather(*(_start_node(deployment, node, redis, None) for node in deployment.nodes))
    await asyncio.gather(*(_become(deployment, node, _is_member) for node in deployment.nodes))


async def _start_node(
    deployment: Deployment, node: Node, redis: Redis, primary: tuple[str, int] | None
) -> None:
    modern = not _host(deployment).version.startswith(("5.", "6."))
    security = deployment.security or files.PLAIN
    files.write_node(node, redis, deployment.topology, primary, modern=modern, security=security)
    await _launch(deployment, node)


async def _launch(deployment: Deployment, node: Node) -> None:
    """Start the server and wait until it answers."""
    node.process = await _host(deployment).launch(node)
    await _expect(node, lambda client: client.ping(), "answers PING", HEALTHY_S)


async def _become(
    deployment: Deployment,
    node: Node,
    state: Callable[[Deployment, Client], Awaitable[bool]],
) -> None:
    label = (state.__doc__ or "is healthy").partition(".")[0].lower()
    await _expect(node, lambda client: state(deployment, client), label, HEALTHY_S)


async def _expect(
    node: Node, question: Callable[[Client], Awaitable[Any]], label: str, deadline: float
) -> None:
    """Wait until the node answers the question with yes; raise UserError with its log's end."""
    client = direct(node)

    async def answer() -> str:
        if node.process is not None and node.process.exit_status is not None:
            return "ended"
        return "yes" if await question(client) else ""

    address = f"{node.host}:{node.port}"
    try:
        outcome: str = await wait_for(answer, deadline, f"{node.name} at {address} {label}")
    except WaitTimeout as error:
        raise UserError(_unhealthy(node, str(error))) from error
    finally:
        await client.aclose()
    if outcome == "ended":
        raise UserError(_died(node))


def _unhealthy(node: Node, problem: str) -> str:
    return f"{problem}\n{log_tail(node.process.log) if node.process else ''}"


def _died(node: Node) -> str:
    assert node.process is not None
    tail = log_tail(node.process.log)
    if "Address already in use" in tail or "Failed listening on port" in tail:
        return (
            f"{node.name}: {node.host}:{node.port} (or its bus port {node.port + 10000}) is taken "
            "by another process: `ss -ltnp` names it. Stop it, or run again: each run takes a "
            f"free subnet.\n{tail}"
        )
    return (
        f"{node.name} ended at start with status {node.process.exit_status}; expected "
        f"it to listen on {node.host}:{node.port}. The settings come from the scenario's "
        f"`redis` part; they are in {node.directory / files.CONFIG}.\n{tail}"
    )


async def _is_linked(deployment: Deployment, client: Client) -> bool:
    """Replicates from its primary. A full synchronisation is done by then."""
    info = await client.info("replication")
    synced = info["role"] == "slave" and info["master_link_status"] == "up"
    return bool(synced) and await _is_online_at_primary(deployment, client)


async def _is_online_at_primary(deployment: Deployment, client: Client) -> bool:
    """Tell whether the primary counts the replica as online: only then sentinels can use it."""
    known = client.connection_pool.connection_kwargs
    address = known["host"], known["port"]
    primary = direct(deployment.nodes[0])
    try:
        info = await primary.info("replication")
    finally:
        await primary.aclose()
    replicas = [value for key, value in info.items() if re.fullmatch(r"slave\d+", key)]
    return any(
        (each["ip"], each["port"]) == address and each["state"] == "online" for each in replicas
    )


async def _sees_everybody(deployment: Deployment, client: Client) -> bool:
    """Sees primary, replicas and sentinels. By their flags: counts are right before any link is."""
    service = deployment.service
    primary = await _fields(client, "SENTINEL MASTER", service)
    replicas = await _list_of_fields(client, "SENTINEL REPLICAS", service)
    others = await _list_of_fields(client, "SENTINEL SENTINELS", service)
    return (
        primary["flags"] == "master"
        and len(replicas) == len(deployment.nodes) - 1
        and all(r["flags"] == "slave" and r["master-link-status"] == "ok" for r in replicas)
        and len(others) == len(deployment.sentinels) - 1
        and all(other["flags"] == "sentinel" for other in others)
    )


async def _is_member(deployment: Deployment, client: Client) -> bool:
    """Is a member of a whole cluster. All slots served, all nodes linked, replicas in step."""
    info = dict(
        line.split(":", 1) for line in (await _raw(client, "CLUSTER INFO")).split() if ":" in line
    )
    if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != "16384":
        return False
    if not _all_linked(await _raw(client, "CLUSTER NODES"), len(deployment.nodes)):
        return False
    replication = await client.info("replication")
    return bool(replication["role"] == "master" or replication["master_link_status"] == "up")


def _all_linked(nodes: str, count: int) -> bool:
    lines = [line.split() for line in nodes.splitlines() if line.strip()]
    roles = {"master", "slave", "myself"}
    return len(lines) == count and all(
        set(fields[2].split(",")) <= roles and fields[7] == "connected" for fields in lines
    )


async def restart_node(deployment: Deployment, node: Node, redis: Redis, empty: bool) -> None:
    """Start a node that has ended again, with its data or `empty`; return when its role is back.

    Under Sentinel a node whose failover is over comes back as a replica of the new primary: its
    start-up file says so, so that it never serves as a stale primary. Before the failover it
    comes back as the primary that it was, also when empty: its replicas then lose their data,
    as they would in the field. A cluster node keeps its identity (nodes.conf) even when empty,
    or it would be a stranger to the others. Raises UserError when it dies or has no role after
    20 s.
    """
    if empty or redis.persistence == "none":
        _remove_data(node)
    if node.kind == "sentinel":
        await _launch(deployment, node)
    else:
        primary = await _primary_to_follow(deployment, node)
        await _start_node(deployment, node, redis, primary)
    label = "has its role back"
    await _expect(node, lambda client: _has_role(deployment, node, client), label, ROLE_S)


def _remove_data(node: Node) -> None:
    for path in (*node.directory.glob("*.rdb"), *node.directory.glob("*.aof")):
        path.unlink()
    shutil.rmtree(node.directory / "appendonlydir", ignore_errors=True)


async def _primary_to_follow(deployment: Deployment, node: Node) -> tuple[str, int] | None:
    """Return the primary that the sentinels agree on, unless it is the node itself.

    While a failover is going on it waits for its end, or the node would start as a primary that
    is about to lose its role.
    """
    if deployment.topology != "sentinel":
        return None
    label = f"no failover is going on before {node.name} starts"
    _: bool = await wait_for(lambda: _calm(deployment), ROLE_S, label)
    primary = await _agreed_primary(deployment)
    return None if primary == node.address else primary


async def _calm(deployment: Deployment) -> bool:
    flags = await _ask_sentinels(deployment, _primary_flags)
    return not any("failover_in_progress" in each for each in flags)


async def _primary_flags(client: Client, service: str) -> str:
    return (await _fields(client, "SENTINEL MASTER", service))["flags"]


async def _agreed_primary(deployment: Deployment) -> tuple[str, int] | None:
    """Return the address that most sentinels give; None when they have no majority."""
    answers = await _ask_sentinels(deployment, _primary_address)
    votes = {answer: answers.count(answer) for answer in answers}
    best = max(votes, key=votes.__getitem__, default=None)
    return best if best and votes[best] * 2 > len(deployment.sentinels) else None


async def _primary_address(client: Client, service: str) -> tuple[str, int]:
    host, port = await _raw(client, "SENTINEL GET-MASTER-ADDR-BY-NAME", service)
    return host, int(port)


async def _ask_sentinels(
    deployment: Deployment, question: Callable[[Client, str], Awaitable[T]]
) -> list[T]:
    """Return the answers of the sentinels that give one."""

    async def ask(node: Node) -> T:
        client = direct(node)
        try:
            return await asyncio.wait_for(question(client, deployment.service), ASK_S)
        finally:
            await client.aclose()

    asked = (ask(node) for node in deployment.sentinels)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def _has_role(deployment: Deployment, node: Node, client: Client) -> bool:
    if node.kind == "sentinel" or deployment.topology == "standalone":
        return bool(await client.ping())
    if deployment.topology == "cluster":
        info = await _raw(client, "CLUSTER INFO")
        if "cluster_state:ok" not in info:
            return False
    replication = await client.info("replication")
    if replication["role"] == "slave":
        return bool(replication["master_link_status"] == "up")
    if deployment.topology == "sentinel":
        return await _agreed_primary(deployment) == node.address
    return True


async def _raw(client: Client, command: str, *arguments: str) -> Any:
    """Send a command and return its reply as the server wrote it."""
    client.set_response_callback(command, _unparsed)
    return await client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]  # redis-py is untyped


def _unparsed(response: Any, **_: Any) -> Any:
    return response


async def _fields(client: Client, command: str, service: str) -> dict[str, str]:
    reply = await _raw(client, command, service)
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def _list_of_fields(client: Client, command: str, service: str) -> list[dict[str, str]]:
    replies = await _raw(client, command, service)
    return [dict(zip(reply[::2], reply[1::2], strict=True)) for reply in replies]
