"""What an operator should know of a Redis server: pure rules over INFO and CONFIG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

OLDEST = (6, 2)  # GETEX, and sentinels with users
FEW_CLIENTS = 1000
PER_WORKER = 6  # connections to a node: commands, two of the event log, subscription, spare
ROLL_OUT = 2  # old and new workers live side by side
NEARLY_FULL = 0.8
RECOMMENDED_IDLE_S = 1800
SMALL_BUFFER = 256 * 1024 * 1024  # what Open WebUI's documentation asks of pub/sub
SMALL_SOFT = 64 * 1024 * 1024
Level = Literal["error", "unreachable", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "unreachable", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing to know. `error`: wrong configuration; `warning`: will hurt one day.

    `name` is a slug that never changes; docs/troubleshooting.md has a row for each.
    """

    name: str
    level: Level
    where: str
    what: str
    consequence: str = ""
    fix: str = ""
    evidence: str = ""

    def __str__(self) -> str:
        parts = [f"{self.level}: {self.where}: {self.what} [{self.name}]"]
        for label in ("evidence", "consequence", "fix"):
            parts += [f"{label}: {text}"] if (text := getattr(self, label)) else []
        return "\n    ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Return it as `--json` shows it."""
        return {
            "name": self.name,
            "severity": "error" if self.level == "unreachable" else self.level,
            "where": self.where,
            "what": self.what,
            "evidence": self.evidence,
            "consequence": self.consequence,
            "fix": self.fix,
        }


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Return them with the worst first."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


@dataclass(frozen=True)
class Server:
    """One data node as it described itself. `config` lacks what an ACL kept from us.

    `workers` are all processes that will connect, on all machines; `pubsub`: whether events travel
    by Redis's pub/sub.
    """

    where: str
    mode: str  # of our settings: standalone, sentinel or cluster
    role: str
    info: Mapping[str, str]
    config: Mapping[str, str]
    workers: int = 1
    pubsub: bool = False

    def number(self, name: str) -> int:
        """Return a number of INFO or CONFIG; 0 when it is not there."""
        text = self.info.get(name) or self.config.get(name) or "0"
        return int(text) if text.isdigit() else 0

    def said(self, *names: str) -> str:
        """Return what the server says under these names, as evidence."""
        both = {**self.info, **self.config}
        return ", ".join(f"{name} {both[name] or '(empty)'}" for name in names if name in both)


def judge(server: Server) -> list[Finding]:
    """Return everything worth knowing of a server, the worst first."""
    rules = (_kind, _version, _clients, _idle, _memory, _persistence, _replicas, _buffers)
    return by_weight(finding for rule in rules for finding in rule(server))


def _kind(server: Server) -> Iterator[Finding]:
    evidence = f"ROLE: {server.role}"
    if server.role == "sentinel":
        yield Finding("redis-is-sentinel", "error", server.where,
                      "is a sentinel, not a data node", "no command of a worker is answered",
                      "put it into REDIS_SENTINEL_HOSTS, and the name of the service as the "
                      "host of REDIS_URL", evidence)  # fmt: skip
    elif server.role == "slave":
        yield Finding("redis-is-replica", "error", server.where,
                      "is a replica: it refuses every write", "nobody can sign in",
                      "name the primary, or set REDIS_SENTINEL_HOSTS", evidence)  # fmt: skip
    if server.info.get("cluster_enabled") == "1" and server.mode != "cluster":
        yield Finding("redis-is-cluster", "error", server.where,
                      "is a node of a cluster, which REDIS_CLUSTER denies",
                      "it refuses the keys of other nodes", "set REDIS_CLUSTER=true",
                      server.said("cluster_enabled"))  # fmt: skip


def _version(server: Server) -> Iterator[Finding]:
    text = server.info.get("redis_version", "")
    parts = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if parts and parts < OLDEST:
        yield Finding("redis-too-old", "error", server.where,
                      f"is Redis {text}; 6.2 or newer is needed", "scripts and streams fail",
                      "update Redis", server.said("redis_version"))  # fmt: skip


def _clients(server: Server) -> Iterator[Finding]:
    most, now = server.number("maxclients"), server.number("connected_clients")
    need = server.workers * PER_WORKER * ROLL_OUT
    evidence = server.said("maxclients", "connected_clients")
    if not most:
        return
    if now > most * NEARLY_FULL:
        yield Finding("clients-nearly-full", "warning", server.where,
                      f"{now} of maxclients {most} are connected",
                      "at the limit nobody can sign in any more",
                      "look for leaks in CLIENT LIST, raise maxclients", evidence)  # fmt: skip
    if most <= max(FEW_CLIENTS, need):
        yield Finding("maxclients-low", "warning", server.where, f"maxclients is {most}",
                      "at the limit nobody can sign in; other clients count too",
                      "CONFIG SET maxclients 10000, and in redis.conf",
                      f"{evidence}; {server.workers} workers use about {PER_WORKER} each, "
                      f"during a roll-out {need} together")  # fmt: skip


def _idle(server: Server) -> Iterator[Finding]:
    if server.config.get("timeout") == "0":
        yield Finding("idle-connections-stay", "warning", server.where,
                      "timeout is 0: idle connections stay for ever",
                      "those of crashed or leaking clients add up until maxclients is reached",
                      f"CONFIG SET timeout {RECOMMENDED_IDLE_S}; it ends connections only, no "
                      "session of a user", server.said("timeout", "connected_clients"))  # fmt: skip


def _memory(server: Server) -> Iterator[Finding]:
    most, used = server.number("maxmemory"), server.number("used_memory")
    policy = server.config.get("maxmemory-policy") or server.info.get("maxmemory_policy", "")
    evidence = server.said("maxmemory", "maxmemory-policy", "used_memory", "evicted_keys")
    if policy.startswith("allkeys-"):
        yield Finding("eviction-takes-sessions", "warning", server.where,
                      f"maxmemory-policy is {policy}",
                      "when memory is short it evicts records without expiry too: the event "
                      "stream, running tasks, who is connected",
                      "use volatile-lru, or noeviction and enough maxmemory", evidence)  # fmt: skip
    if not most and "maxmemory" in (*server.info, *server.config):
        yield Finding("memory-unbounded", "note", server.where, "maxmemory is not set",
                      "Redis grows until the system ends it", "set maxmemory",
                      evidence)  # fmt: skip
    elif most and used > most * NEARLY_FULL:
        yield Finding("memory-nearly-full", "warning", server.where,
                      f"{used} of {most} bytes of memory are used",
                      "with noeviction writes fail with OOM soon", "raise maxmemory",
                      evidence)  # fmt: skip


def _persistence(server: Server) -> Iterator[Finding]:
    info = server.info
    states = ("rdb_last_bgsave_status", "aof_last_write_status")
    failed = [name for name in states if info.get(name, "ok") != "ok"]
    if failed:
        yield Finding("saving-fails", "warning", server.where,
                      f"saving fails ({', '.join(failed)})",
                      "writes are refused with MISCONF then", "see its log",
                      server.said(*states))  # fmt: skip
    if info.get("aof_enabled") == "0" and server.config.get("save") == "":
        yield Finding("nothing-saved", "warning", server.where,
                      'nothing is saved (appendonly no, save "")',
                      "a restart loses sessions, limits and what no worker has in memory",
                      "CONFIG SET appendonly yes, and in redis.conf",
                      server.said("aof_enabled", "save"))  # fmt: skip


def _replicas(server: Server) -> Iterator[Finding]:
    if server.mode == "standalone" or server.role != "master":
        return
    evidence = server.said("connected_slaves", "min-replicas-to-write")
    if server.number("connected_slaves") == 0:
        yield Finding("no-replica", "warning", server.where, "has no replica",
                      "nobody can take over when it fails", "add one", evidence)  # fmt: skip
    elif server.config.get("min-replicas-to-write") == "0" and server.mode == "sentinel":
        yield Finding("writes-may-be-lost", "note", server.where, "min-replicas-to-write is 0",
                      "a primary that is cut off from its replicas accepts writes that are lost",
                      "set it to 1 where losing writes is worse than refusing them",
                      evidence)  # fmt: skip


def _buffers(server: Server) -> Iterator[Finding]:
    """Look at how much an unread answer may take: a client beyond it is disconnected."""
    kind = "pubsub" if server.pubsub else "normal"
    hard, soft = _limits(server.config.get("client-output-buffer-limit", "")).get(kind, (0, 0))
    if not 0 < hard < SMALL_BUFFER and not 0 < soft < SMALL_SOFT:
        return
    yield Finding("output-buffer-small", "warning", server.where,
                  f"a {kind} client is cut off with {hard} bytes unread (soft limit {soft})",
                  "in a burst Redis closes the connections that carry events; sockets of that "
                  "worker hear nothing until it is back",
                  f"CONFIG SET client-output-buffer-limit '{kind} 1gb 256mb 180'",
                  server.said("client-output-buffer-limit"))  # fmt: skip


def _limits(text: str) -> dict[str, tuple[int, int]]:
    """Return class of clients → hard and soft limit in bytes, 0: none."""
    words = text.split()
    rows = [words[n : n + 4] for n in range(0, len(words) - 3, 4)]
    return {kind: (int(hard), int(soft)) for kind, hard, soft, _ in rows}
