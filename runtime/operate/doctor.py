"""`runtime check`: connects as a worker would, and tells the operator what it found."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError
from sqlalchemy import make_url

from runtime.operate import sentinels
from runtime.operate.database_room import database_room
from runtime.operate.findings import Finding, Server, by_weight, judge
from runtime.redis.cluster import Cluster
from runtime.redis.errors import CODES, OTHER_HINTS, RedisDenied, RedisUnavailable
from runtime.redis.factory import topology_from
from runtime.redis.permissions import least_words, needed
from runtime.redis.sentinel import Sentinel
from runtime.redis.topology import Topology
from runtime.redis.wire import Address, Wire, shown
from runtime.settings import Settings
from runtime.storage.database import Database, DatabaseUnavailable
from runtime.storage.engine import READERS, driver_url

ASKED = (
    *("maxclients", "timeout", "maxmemory", "maxmemory-policy"),
    *("appendonly", "save", "min-replicas-to-write", "client-output-buffer-limit"),
)
WITHIN_S = 10.0
DATABASE_WITHIN_S = 6.0
PATIENCE_S = 3.0
WRONG_WORDS = (  # in a reason: no outage, but a setting that cannot work
    *(code for code, meaning in CODES.items() if not meaning.retriable),
    *(text for text in OTHER_HINTS if text != "max number of clients reached"),
    *("watches no service", "does the port speak TLS"),
)
FEW_SENTINELS = 3


@dataclass(frozen=True)
class Use:
    """What one worker's variables do not tell: how many deployments like it there will be.

    `database_pool`: connections of one process, where another app than the runtime connects;
    `pubsub`: that app's events travel by Redis's pub/sub.
    """

    replicas: int = 1
    database_pool: int = READERS + 1
    pubsub: bool = False


async def examine(settings: Settings, use: Use | None = None) -> list[Finding]:
    """Return what is wrong or risky in Redis, the sockets' Redis and the database, worst first."""
    use = use or Use()
    settings = _patient(settings)
    parts = [_redis(settings, "REDIS_URL", use)] if settings.redis_url else []
    if settings.separate_websocket_redis:
        parts.append(_redis(settings.websocket(), "WEBSOCKET_REDIS_URL", use))
    found = await asyncio.gather(*parts, _database(settings, use))
    return by_weight(finding for some in found for finding in some)


def _patient(settings: Settings) -> Settings:
    """Return the settings with longer timeouts: a worker tries again, the doctor does not."""
    names = ("redis_socket_connect_timeout", "redis_socket_timeout")
    return settings.model_copy(
        update={name: max(getattr(settings, name), PATIENCE_S) for name in names}
    )


async def _redis(settings: Settings, variable: str, use: Use) -> list[Finding]:
    topology = topology_from(settings, variable)
    if topology is None:
        return []
    found = list(_of_settings(settings, topology, variable))
    try:
        async with asyncio.timeout(WITHIN_S):
            if isinstance(topology, Sentinel):
                found += await sentinels.look(topology)
            for address in await _primaries(topology):
                found += await _node(topology, address, settings, use)
    except RedisUnavailable as error:
        found.append(_failure(variable, error))
    except TimeoutError:
        found.append(_failure(variable, RedisUnavailable(f"no answer within {WITHIN_S:g} s")))
    finally:
        await topology.close()
    return found


def _of_settings(settings: Settings, topology: Topology, variable: str) -> Iterable[Finding]:
    """Yield what the settings alone tell."""
    if settings.sentinels and settings.redis_cluster:
        yield Finding("cluster-flag-idle", "note", variable,
                      "REDIS_CLUSTER has no effect: sentinels are set",
                      "none; it misleads whoever reads it", "unset REDIS_CLUSTER",
                      "REDIS_SENTINEL_HOSTS and REDIS_CLUSTER are set")  # fmt: skip
    if settings.sentinels and len(settings.sentinels) < FEW_SENTINELS:
        count = len(settings.sentinels)
        yield Finding("few-sentinels-named", "warning", variable,
                      f"only {count} of the sentinels known to us",
                      "nobody tells the primary when they are away", "name three",
                      f"REDIS_SENTINEL_HOSTS has {count}")  # fmt: skip
    if topology.dial.tls and topology.dial.tls.requirement == "none":
        yield Finding("tls-not-verified", "warning", variable,
                      "ssl_cert_reqs=none: the server is not verified",
                      "whoever is in between can read everything",
                      "name the authority with ssl_ca_certs",
                      "ssl_cert_reqs=none in the URL")  # fmt: skip


async def _primaries(topology: Topology) -> list[Address]:
    """Return the addresses of all primaries; raises RedisUnavailable."""
    first = await topology.locate("")
    return topology.primaries() if isinstance(topology, Cluster) else [first]


def _failure(where: str, error: RedisUnavailable) -> Finding:
    """Tell a setting that cannot work from a server that is away."""
    wrong = isinstance(error, RedisDenied) or any(word in error.reason for word in WRONG_WORDS)
    if wrong:
        return Finding("redis-refuses", "error", where, "Redis cannot be used with these settings",
                       "workers start, and nothing that needs Redis works",
                       "correct the URL, the credentials or the flag", error.reason)  # fmt: skip
    return Finding("redis-unreachable", "unreachable", where, "Redis does not answer",
                   "workers start, and nothing that needs Redis works",
                   "start it; see that host and port are right as the workers see them: between "
                   "containers that is the service's name, not localhost",
                   error.reason)  # fmt: skip


async def _node(
    topology: Topology, address: Address, settings: Settings, use: Use
) -> list[Finding]:
    """Examine one primary over a connection of its own."""
    where = shown(address)
    try:
        wire = await Topology.dial_node(topology, address, "check", decode=True)
    except RedisUnavailable as error:
        return [_failure(where, error)]
    try:
        server = Server(
            where=where,
            mode=topology.mode,
            role=str((await wire.call("ROLE"))[0]),
            info=_lines(await wire.call("INFO")),
            config=await _config(wire),
            workers=settings.uvicorn_workers * use.replicas,
            pubsub=use.pubsub or settings.manager == "redis-pubsub",
        )
        return judge(server) + await _permissions(wire, where, topology, settings)
    except (RedisUnavailable, ResponseError) as error:
        found = error if isinstance(error, RedisUnavailable) else RedisUnavailable(str(error))
        return [_failure(where, found)]
    finally:
        wire.drop()


def _lines(info: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


async def _config(wire: Wire) -> dict[str, str]:
    """Return the server's settings that the rules look at; empty where an ACL forbids it."""
    found: dict[str, str] = {}
    for reply in await wire.call_many([("CONFIG", "GET", name) for name in ASKED]):
        if isinstance(reply, list) and len(reply) >= 2:
            found[str(reply[0])] = str(reply[1])
    return found


async def _permissions(
    wire: Wire, where: str, topology: Topology, settings: Settings
) -> list[Finding]:
    """Return the permissions that our user lacks.

    The commands are queued in a transaction that is discarded: the server checks permissions when
    it queues, so nothing is executed.
    """
    key = f"{settings.redis_key_prefix}:check:{uuid.uuid4().hex}"
    commands = [least_words(name, key) for name in needed(topology.mode, topology.dial.db)]
    began, *replies, _ = await wire.call_many([("MULTI",), *commands, ("DISCARD",)])
    if isinstance(began, Exception):
        return [Finding("permissions-unknown", "note", where, "permissions were not examined",
                        "one that is missing shows when it is needed",
                        "let the user run MULTI and DISCARD, or see docs/redis.md",
                        str(began))]  # fmt: skip
    missing = [words for words, reply in zip(commands, replies, strict=True) if _denied(reply)]
    return [_lacking(where, words, settings.redis_key_prefix) for words in missing]


def _denied(reply: Any) -> bool:
    return isinstance(reply, Exception) and "permission" in str(reply).lower()


def _lacking(where: str, words: list[str], prefix: str) -> Finding:
    name = "|".join(words[:2]) if words[0] in ("client", "cluster") else words[0]
    rules = f"+{name} ~{prefix}:* ~{{{prefix}:* &{prefix}:*"
    return Finding("permission-missing", "error", where,
                   f"the ACL user may not run `{name}` on our keys",
                   "the runtime needs it; all rules are in docs/redis.md",
                   f"ACL SETUSER … {rules}", "a transaction that was discarded")  # fmt: skip


async def _database(settings: Settings, use: Use) -> list[Finding]:
    """Return whether the database answers, and has room for all workers; makes no file."""
    if missing := _missing_file(settings):
        return [Finding("database-absent", "note", "DATABASE_URL",
                        f"{missing} is made at the first start",
                        "none, if that is the place", "DATABASE_URL, if it is not",
                        "there is no such file")]  # fmt: skip
    database = Database(settings.database)
    try:
        async with asyncio.timeout(DATABASE_WITHIN_S):
            await database.ping()
            processes = settings.uvicorn_workers * use.replicas
            return await database_room(database, processes, use.database_pool)
    except (DatabaseUnavailable, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no answer in time"
        return [Finding("database-unreachable", "unreachable", "DATABASE_URL",
                        "the database does not answer", "nobody can sign in",
                        "start it, or correct the URL", reason)]  # fmt: skip
    finally:
        await database.close()


def _missing_file(settings: Settings) -> str:
    """Return the path of an SQLite file that does not exist yet."""
    url = make_url(driver_url(settings.database))
    absent = url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()
    return str(url.database) if absent else ""
