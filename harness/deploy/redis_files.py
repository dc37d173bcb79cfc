"""The files that Redis servers start from: configuration, sentinel state, cluster state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from harness.deploy.model import Deployment, Node
from harness.deploy.redis_security import listening, node_lines, sentinel_lines
from harness.deploy.security import Security
from harness.scenario import Redis

CONFIG = "redis.conf"
PLAIN = Security()
# What operators of such applications are told to set; the defaults of some distributions
# (1000, never) run out of connections. `redis.config` of a scenario comes later and wins.
LIMITS = ("maxclients 10000", "timeout 1800")
SLOTS = 16384
BUS = 10000  # the cluster bus port is this much above the node's
FAILOVER_TIMEOUTS = 3  # Sentinel's failover-timeout in units of down-after, but not less than
SHORTEST_FAILOVER_TIMEOUT_MS = 3000  # this: shorter ones are given up on a busy machine


def write_node(
    node: Node,
    redis: Redis,
    topology: str,
    primary: tuple[str, int] | None,
    *,
    modern: bool = True,
    security: Security = PLAIN,
) -> None:
    """Write a data node's configuration; `primary` is whom it replicates (not in a cluster)."""
    lines = [
        *_common(node, security),
        *LIMITS,
        *node_lines(security, topology),
        "repl-diskless-sync-delay 0",  # 5 s of waiting for more replicas otherwise
        f"replica-announce-ip {node.host}",
        *_persistence(redis),
    ]
    if modern:  # since 7.0
        lines.append("shutdown-timeout 0")  # SIGTERM does not wait for replicas
        lines.append(f"bind-source-addr {node.host}")  # peers see who dials
    if primary is not None:
        lines.append(f"replicaof {primary[0]} {primary[1]}")
    if topology == "cluster":
        lines += _cluster(node, redis)
    lines += [f"{key} {value}" for key, value in redis.config.items()]  # the last one wins
    _write(node, lines)


def write_sentinel(node: Node, deployment: Deployment, redis: Redis) -> None:
    """Write a sentinel's configuration and what it would otherwise find out in two seconds."""
    primary, *replicas = deployment.nodes
    service = deployment.service
    quorum = len(deployment.sentinels) // 2 + 1
    down_after = redis.down_after_ms
    security = deployment.security or PLAIN
    failover = max(FAILOVER_TIMEOUTS * down_after, SHORTEST_FAILOVER_TIMEOUT_MS)
    _write(
        node,
        [
            *_common(node, security),
            *_source(node, deployment),
            f"sentinel announce-ip {node.host}",
            f"sentinel myid {identity(node)}",
            f"sentinel monitor {service} {primary.host} {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {service} {down_after}",
            f"sentinel failover-timeout {service} {failover}",
            f"sentinel parallel-syncs {service} 1",
            *sentinel_lines(security, service),
            *(f"sentinel known-replica {service} {r.host} {r.port}" for r in replicas),
            *(
                f"sentinel known-sentinel {service} {other.host} {other.port} {identity(other)}"
                for other in deployment.sentinels
                if other is not node
            ),
        ],
    )


def write_cluster_state(node: Node, nodes: Sequence[Node], primaries: int) -> None:
    """Write nodes.conf as `node` would have saved it in a whole cluster."""
    lines = [
        _member(other, i, nodes, primaries, myself=other is node) for i, other in enumerate(nodes)
    ]
    lines.append(f"vars currentEpoch {primaries} lastVoteEpoch 0\n")
    (node.directory / "nodes.conf").write_text("\n".join(lines), encoding="utf-8")


def identity(node: Node) -> str:
    """Return the node's 40 hexadecimal digits, the same at every start."""
    return hashlib.blake2b(node.name.encode(), digest_size=20).hexdigest()


def _member(node: Node, number: int, nodes: Sequence[Node], primaries: int, *, myself: bool) -> str:
    prefix = "myself," if myself else ""
    head = f"{identity(node)} {node.host}:{node.port}@{node.port + BUS}"
    of = number % primaries
    if number >= primaries:
        return f"{head} {prefix}slave {identity(nodes[of])} 0 0 {of + 1} connected"
    first, last = SLOTS * of // primaries, SLOTS * (of + 1) // primaries - 1
    return f"{head} {prefix}master - 0 0 {of + 1} connected {first}-{last}"


def _common(node: Node, security: Security) -> list[str]:
    return [
        f"bind {node.bind or node.host}",  # by default loopback, hence no protected mode
        *listening(node, security),
        "protected-mode no",
        f'dir "{node.directory}"',
        "daemonize no",
        f'logfile "{node.logfile}"',
        "set-proc-title no",  # the command line goes on naming the run's folder
    ]


def _source(node: Node, deployment: Deployment) -> list[str]:
    """Return the line that shows peers who dials; older servers do so unasked."""
    if deployment.host is None or deployment.host.version.startswith(("5.", "6.")):
        return []
    return [f"bind-source-addr {node.host}"]


def _persistence(redis: Redis) -> list[str]:
    if redis.persistence == "aof":
        return ["appendonly yes", "appendfsync everysec", 'save ""']
    # Without persistence a replica still leaves the dump of its synchronisation behind, and
    # would load it at its next start.
    return ["appendonly no", 'save ""', "rdb-del-sync-files yes"]


def _cluster(node: Node, redis: Redis) -> list[str]:
    return [
        "cluster-enabled yes",
        "cluster-config-file nodes.conf",
        f"cluster-node-timeout {redis.node_timeout_ms}",
        f"cluster-announce-ip {node.host}",
        # A fault on one shard must hit that shard alone, as scenarios name what they hit.
        "cluster-require-full-coverage no",
        # Node i + 3 stays the replica of node i, or whom it replaced.
        "cluster-allow-replica-migration no",
    ]


def _write(node: Node, lines: Iterable[str]) -> None:
    (node.directory / CONFIG).write_text("\n".join(lines) + "\n", encoding="utf-8")
