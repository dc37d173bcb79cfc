"""The lines of redis.conf and sentinel.conf that secure a server."""

from __future__ import annotations

from collections.abc import Iterable

from harness.deploy.model import Node
from harness.deploy.security import (
    ADMIN,
    APP,
    AUTHORITY,
    CERTIFICATE,
    KEY,
    REPLICA,
    SENTINEL,
    Security,
)
from harness.targets.access import Login

# What Redis's own documentation gives to these two.
REPLICATES = ("+psync", "+replconf", "+ping")
WATCHES = (
    *("&*", "+multi", "+slaveof", "+ping", "+exec", "+subscribe", "+config|rewrite", "+role"),
    *("+publish", "+info", "+client|setname", "+client|kill", "+script|kill"),
)
# … and what a sentinel sends to another one: greetings and votes.
VOTES = ("&*", "+ping", "+publish", "+client|setname", "+sentinel|is-master-down-by-addr")
EVERYTHING = ("~*", "&*", "+@all")


def listening(node: Node, security: Security) -> list[str]:
    """Return the lines of the port; with TLS there is no other one."""
    if security.tls == "none":
        return [f"port {node.port}"]
    folder = node.directory
    return [
        "port 0",
        f"tls-port {node.port}",
        f'tls-cert-file "{folder / CERTIFICATE}"',
        f'tls-key-file "{folder / KEY}"',
        f'tls-ca-cert-file "{folder / AUTHORITY}"',
        f"tls-auth-clients {'yes' if security.tls == 'mutual' else 'no'}",
        "tls-replication yes",  # of a sentinel: all that it dials
    ]


def node_lines(security: Security, topology: str) -> list[str]:
    """Return who may log in at a data node, and how it logs in at its primary."""
    lines = ["tls-cluster yes"] if security.tls != "none" and topology == "cluster" else []
    replica = security.login("redis", REPLICA)
    if replica is None:
        return lines
    lines.append(f"masterauth {replica.password}")
    if security.permissions is None:
        return [*lines, f"requirepass {replica.password}"]
    watcher = {SENTINEL: WATCHES} if topology == "sentinel" else {}
    rules = {APP: security.permissions.nodes, REPLICA: REPLICATES, **watcher}
    return [*lines, f"masteruser {replica.user}", *_users(security, "redis", rules)]


def sentinel_lines(security: Security, service: str) -> list[str]:
    """Return who may log in at a sentinel, and how it logs in at data nodes and other sentinels."""
    at_nodes, at_peers = (security.login(server, SENTINEL) for server in ("redis", "sentinel"))
    if at_nodes is None or at_peers is None:
        return []
    lines = [
        f"sentinel auth-pass {service} {at_nodes.password}",
        f"sentinel sentinel-pass {at_peers.password}",
    ]
    if security.permissions is None:
        return [*lines, f"requirepass {at_peers.password}"]
    rules = {APP: security.permissions.sentinels, SENTINEL: VOTES}
    return [
        *lines,
        f"sentinel auth-user {service} {at_nodes.user}",
        f"sentinel sentinel-user {at_peers.user}",
        *_users(security, "sentinel", rules),
    ]


def _users(security: Security, server: str, rules: dict[str, tuple[str, ...]]) -> Iterable[str]:
    """Yield a line for each user; nobody gets in without a name."""
    yield "user default off"
    for client, words in {ADMIN: EVERYTHING, **rules}.items():
        login = security.login(server, client)
        assert login is not None, f"no user {client} at {server}"
        yield f"user {login.user} {_rules(login, words)}"


def _rules(login: Login, words: Iterable[str]) -> str:
    return f"on >{login.password} resetkeys resetchannels -@all {' '.join(words)}"
