"""Direct connections to nodes: short deadlines, no retries, never through links."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from harness.deploy.model import Node

TIMEOUT_S = 0.5
ROLES = {"master": "primary", "slave": "replica"}


def direct(node: Node, **options: Any) -> Redis:
    """Return a client of one node; `options` go to redis-py. Close it with `aclose()`."""
    settings: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "protocol": 2,  # no HELLO: one round trip less per connection
        "driver_info": None,  # nor CLIENT SETINFO, which Redis 7.0 answers with an error
        **node.login,
        **options,
    }
    return Redis(host=node.host, port=node.port, **settings)


async def role_of(node: Node) -> str:
    """Return primary, replica or sentinel, as the node says; raise RedisError when it is down."""
    client = direct(node)
    try:
        reply = await client.role()
    finally:
        await client.aclose()
    name = str(reply[0])
    return ROLES.get(name, name)
