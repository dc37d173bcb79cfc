"""What an operator asks when something looks wrong: keys, connections, leases, leader, settings.

Questions to single nodes travel over connections of their own, named `…:diagnostics`, each with a
deadline; nothing here is asked unless an admin asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import ResponseError

from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import instance_of
from runtime.redis.topology import Topology
from runtime.redis.wire import Address, Wire

if TYPE_CHECKING:
    from runtime.parts import RedisParts
    from runtime.services import Services
    from runtime.settings import Settings

CALL_S = 1.0
SCAN_S = 1.0  # per node; what is not seen by then is not counted
SCAN_COUNT = 1000
MOST_LEASES = 1000
OWN = ("instance_id", "data_dir", "global_log_level", "src_log_levels", "log_format", "metrics_")
OWN_PREFIXES = (*OWN, "otel_", "enable_otel")


def fingerprint(settings: Settings) -> str:
    """Return a short text that is the same on all workers which are set alike.

    Keyed by WEBUI_SECRET_KEY, so it tells nobody a password; a worker with another key differs.
    """
    shared = {n: str(v) for n, v in settings if not n.startswith(OWN_PREFIXES)}
    text = orjson.dumps(shared, option=orjson.OPT_SORT_KEYS)
    return hmac.new(settings.webui_secret_key.encode(), text, hashlib.sha256).hexdigest()[:16]


def kind_of(key: str, prefix: str) -> str | None:
    """Return the first word after the prefix; None for a key of somebody else."""
    plain = key.removeprefix("{")
    if not plain.startswith(f"{prefix}:"):
        return None
    rest = plain[len(prefix) + 1 :]
    return rest.replace("}", ":").split(":")[0] or None


def connections_of(client_list: str, instances: Iterable[str]) -> Counter[tuple[str, str]]:
    """Return (instance, purpose) → connections; of nobody we know: ("", "others")."""
    known = set(instances)
    found: Counter[tuple[str, str]] = Counter()
    for line in client_list.splitlines():
        fields = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
        instance, _, purpose = fields.get("name", "").rpartition(":")
        found[(instance, purpose) if instance in known else ("", "others")] += 1
    return found


async def survey(here: Services) -> dict[str, Any]:
    """Return everything; what Redis does not tell in time is named as an error."""
    found: dict[str, Any] = {
        "instance": here.settings.instance_id,
        "settings_fingerprint": fingerprint(here.settings),
        "loops": {name: loop.status for name, loop in here.supervisor.loops.items()},
    }
    if here.redis is not None:
        found["redis"] = await _redis(here, here.redis)
    return found


async def _redis(here: Services, redis: RedisParts) -> dict[str, Any]:
    prefix = here.settings.redis_key_prefix
    found: dict[str, Any] = {"mode": redis.topology.mode, "errors": []}
    nodes = redis.topology.primaries()
    answers = await asyncio.gather(*(_node(redis.topology, node, prefix) for node in nodes))
    found["errors"] += [answer["error"] for answer in answers if answer["error"]]
    kinds: Counter[str] = sum((answer["kinds"] for answer in answers), Counter())
    found["keys"] = {"by_kind": dict(kinds), "complete": all(a["complete"] for a in answers)}
    lease = here.keys.instance("")
    lives = {key.removeprefix(lease) for a in answers for key in a["leases"]}
    lists = "\n".join(answer["clients"] for answer in answers)
    counted = connections_of(lists, {here.settings.instance_id, *map(instance_of, lives)})
    found["connections"] = _nested(counted)
    try:
        found["leases"] = await _leases(here, redis, sorted(lives))
        leader = await redis.client.run(
            lambda r: r.hgetall(here.keys.leader("maintenance")), idempotent=True
        )
        found["leader"] = leader or None
    except RedisUnavailable as error:
        found["errors"].append(error.reason)
    return found


def _nested(counted: Counter[tuple[str, str]]) -> dict[str, Any]:
    """Return instance → purpose → connections, and how many are somebody else's."""
    found: dict[str, Any] = {"others": counted.pop(("", "others"), 0), "by_instance": {}}
    for (instance, purpose), count in sorted(counted.items()):
        found["by_instance"].setdefault(instance, {})[purpose] = count
    return found


async def _leases(here: Services, redis: RedisParts, lives: list[str]) -> dict[str, float]:
    """Return instance → seconds until its lease ends; of several lives, the longest."""
    chosen = lives[:MOST_LEASES]
    left = await redis.client.pipeline([("PTTL", here.keys.instance(life)) for life in chosen])
    found: dict[str, float] = {}
    for life, ms in zip(chosen, left, strict=True):
        name = instance_of(life)
        found[name] = max(found.get(name, -1.0), round(int(ms) / 1000, 1))
    return found


async def _node(topology: Topology, address: Address, prefix: str) -> dict[str, Any]:
    """Ask one primary for its keys and clients."""
    found: dict[str, Any] = {"kinds": Counter(), "leases": [], "complete": False, "clients": ""}
    found["error"] = ""
    wire: Wire | None = None
    try:
        wire = await topology.dial_node(address, "diagnostics", decode=True)
        found["complete"] = await _scan(wire, prefix, found)
        found["clients"] = str(await wire.call("CLIENT", "LIST", within=CALL_S))
    except (RedisUnavailable, ResponseError, TimeoutError) as error:
        found["error"] = f"{address[0]}:{address[1]}: {error}"
    finally:
        if wire is not None:
            wire.drop()
    return found


async def _scan(wire: Wire, prefix: str, found: dict[str, Any]) -> bool:
    """Count keys by kind for a second at most; return whether all were seen."""
    pattern = f"*{_literal(prefix)}:*"
    until = time.monotonic() + SCAN_S
    cursor = "0"
    while True:
        cursor, keys = await wire.call(
            *("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT), within=CALL_S
        )
        for key in keys:
            kind = kind_of(key, prefix)
            if kind is not None:
                found["kinds"][kind] += 1
            if kind == "instances":
                found["leases"].append(key)
        if str(cursor) == "0":
            return True
        if time.monotonic() > until:
            return False


def _literal(text: str) -> str:
    """Return the text as a Redis pattern that matches only itself."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in text)
