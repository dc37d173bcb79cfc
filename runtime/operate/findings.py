"""What an operator should know of a Redis server: pure rules over INFO and CONFIG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

OLDEST = (6, 2)  # GETEX, and sentinels with users
FEW_CLIENTS = 1000
PER_WORKER = 6  # connections to a node: commands, two of the event log, subscription, spare
NEARLY_FULL = 0.8
RECOMMENDED_IDLE_S = 1800
Level = Literal["error", "unreachable", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know. `error`: wrong configuration; `warning`: will hurt one day."""

    level: Level
    where: str
    what: str
    why: str = ""
    do: str = ""

    def __str__(self) -> str:
        parts = [f"{self.level}: {self.where}: {self.what}"]
        parts += [f"why: {self.why}"] if self.why else []
        parts += [f"do: {self.do}"] if self.do else []
        return "\n    ".join(parts)


@dataclass(frozen=True)
class Server:
    """One data node as it described itself. `config` lacks what an ACL kept from us."""

    where: str
    mode: str  # of our settings: standalone, sentinel or cluster
    role: str
    info: Mapping[str, str]
    config: Mapping[str, str]
    workers: int = 1

    def number(self, name: str) -> int:
        """Return a number of INFO or CONFIG; 0 when it is not there."""
        text = self.info.get(name) or self.config.get(name) or "0"
        return int(text) if text.isdigit() else 0


def judge(server: Server) -> list[Finding]:
    """Return everything worth knowing of a server, the worst first."""
    rules = (_kind, _version, _clients, _idle, _memory, _persistence, _replicas)
    found = [finding for rule in rules for finding in rule(server)]
    order = ("error", "unreachable", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))


def _kind(server: Server) -> Iterator[Finding]:
    if server.role == "sentinel":
        yield Finding("error", server.where, "is a sentinel, not a data node",
                      do="put it into REDIS_SENTINEL_HOSTS, and the name of the service as the "
                      "host of REDIS_URL")  # fmt: skip
    elif server.role == "slave":
        yield Finding("error", server.where, "is a replica: it refuses every write",
                      do="name the primary, or set REDIS_SENTINEL_HOSTS")  # fmt: skip
    if server.info.get("cluster_enabled") == "1" and server.mode != "cluster":
        yield Finding("error", server.where, "is a node of a cluster, which REDIS_CLUSTER denies",
                      "it refuses the keys of other nodes", "set REDIS_CLUSTER=true")  # fmt: skip


def _version(server: Server) -> Iterator[Finding]:
    text = server.info.get("redis_version", "")
    parts = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if parts and parts < OLDEST:
        yield Finding("error", server.where, f"is Redis {text}; 6.2 or newer is needed",
                      do="update Redis")  # fmt: skip


def _clients(server: Server) -> Iterator[Finding]:
    most, now = server.number("maxclients"), server.number("connected_clients")
    need = server.workers * PER_WORKER
    if not most:
        return
    if now > most * NEARLY_FULL:
        yield Finding("warning", server.where, f"{now} of maxclients {most} are connected",
                      "at the limit nobody can sign in any more",
                      "look for leaks in CLIENT LIST, raise maxclients")  # fmt: skip
    elif most <= max(FEW_CLIENTS, need):
        yield Finding("warning", server.where, f"maxclients is {most}",
                      f"a worker uses about {PER_WORKER} connections, during a roll-out twice; "
                      "other clients count too",
                      "CONFIG SET maxclients 10000, and in redis.conf")  # fmt: skip


def _idle(server: Server) -> Iterator[Finding]:
    if server.config.get("timeout") == "0":
        yield Finding("warning", server.where, "timeout is 0: idle connections stay for ever",
                      "those of crashed or leaking clients add up until maxclients is reached",
                      f"CONFIG SET timeout {RECOMMENDED_IDLE_S}; it ends connections only, no "
                      "session of a user")  # fmt: skip


def _memory(server: Server) -> Iterator[Finding]:
    most, used = server.number("maxmemory"), server.number("used_memory")
    policy = server.config.get("maxmemory-policy") or server.info.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        yield Finding("warning", server.where, f"maxmemory-policy is {policy}",
                      "when memory is short it evicts records without expiry too: the event "
                      "stream, running tasks, who is connected",
                      "use volatile-lru, or noeviction and enough maxmemory")  # fmt: skip
    if not most and "maxmemory" in (*server.info, *server.config):
        yield Finding("note", server.where, "maxmemory is not set",
                      "Redis grows until the system ends it", "set maxmemory")  # fmt: skip
    elif most and used > most * NEARLY_FULL:
        yield Finding("warning", server.where, f"{used} of {most} bytes of memory are used",
                      "with noeviction writes fail with OOM soon", "raise maxmemory")  # fmt: skip


def _persistence(server: Server) -> Iterator[Finding]:
    info = server.info
    failed = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status")
              if info.get(name, "ok") != "ok"]  # fmt: skip
    if failed:
        yield Finding("warning", server.where, f"saving fails ({', '.join(failed)})",
                      "writes are refused with MISCONF then", "see its log")  # fmt: skip
    if info.get("aof_enabled") == "0" and server.config.get("save") == "":
        yield Finding("warning", server.where, "nothing is saved (appendonly no, save \"\")",
                      "a restart loses sessions, limits and what no worker has in memory",
                      "CONFIG SET appendonly yes, and in redis.conf")  # fmt: skip


def _replicas(server: Server) -> Iterator[Finding]:
    if server.mode == "standalone" or server.role != "master":
        return
    if server.number("connected_slaves") == 0:
        yield Finding("warning", server.where, "has no replica",
                      "nobody can take over when it fails", "add one")  # fmt: skip
    elif server.config.get("min-replicas-to-write") == "0" and server.mode == "sentinel":
        yield Finding("note", server.where, "min-replicas-to-write is 0",
                      "a primary that is cut off from its replicas accepts writes that are lost",
                      "set it to 1 where losing writes is worse than refusing them")  # fmt: skip
