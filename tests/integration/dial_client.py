"""A worker stand-in: uses redis-py in one of six ways, then prints whom it is connected to.

Arguments: async or sync, plain, sentinel or cluster, HOST, PORT. Prints a JSON list of the remote
addresses of its open sockets, and exits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import psutil
import redis
import redis.asyncio

KEYS = [f"key-{n}" for n in range(12)]  # in slots of both cluster nodes


def remotes() -> list[str]:
    """Return the remote addresses of this process's TCP sockets."""
    sockets = psutil.Process().net_connections("tcp")
    return sorted({f"{s.raddr.ip}:{s.raddr.port}" for s in sockets if s.raddr})


def make(library: Any, sentinel: Any, topology: str, host: str, port: int) -> Any:
    """Return a client of the topology."""
    if topology == "plain":
        return library.Redis(host=host, port=port)
    if topology == "cluster":
        return library.RedisCluster(host=host, port=port)
    return sentinel([(host, port)]).master_for("mymaster")


def use_sync(topology: str, host: str, port: int) -> list[str]:
    """Write and read over the synchronous client."""
    from redis.sentinel import Sentinel

    client = make(redis, Sentinel, topology, host, port)
    for key in KEYS:
        client.set(key, key)
        assert client.get(key) == key.encode()
    return remotes()


async def use_async(topology: str, host: str, port: int) -> list[str]:
    """Write and read over the asyncio client; in a cluster, also follow a MOVED."""
    from redis.asyncio.sentinel import Sentinel

    client = make(redis.asyncio, Sentinel, topology, host, port)
    for key in KEYS:
        await client.set(key, key)
        assert await client.get(key) == key.encode()
    if topology == "cluster":
        await _follow_moved(client)
    found = remotes()
    await client.aclose()
    return found


async def _follow_moved(client: Any) -> None:
    """Ask the wrong node on purpose, over new connections: redis-py goes where MOVED points."""
    manager = client.nodes_manager
    slots = manager.slots_cache
    nodes = client.get_primaries()
    owner = slots[client.keyslot(KEYS[0])][0]
    for node in nodes:
        await node.disconnect()
    for slot, owners in list(slots.items()):
        slots[slot] = [next(node for node in nodes if node != owners[0])]
    for key in KEYS:
        assert await client.get(key) == key.encode()
    assert slots[client.keyslot(KEYS[0])][0] == owner  # a MOVED mended the table


if __name__ == "__main__":
    style, topology, host, port = sys.argv[1:]
    if style == "sync":
        print(json.dumps(use_sync(topology, host, int(port))))
    else:
        print(json.dumps(asyncio.run(use_async(topology, host, int(port)))))
