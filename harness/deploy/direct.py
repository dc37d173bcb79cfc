"""Direct connections to nodes: short deadlines, no retries, never through links."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
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


def tls_of(node: Node) -> ssl.SSLContext | None:
    """Return how a raw connection to a node, or to a link to it, is encrypted; None: not at all."""
    if not node.login.get("ssl"):
        return None
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    return _context(*(node.login.get(name) for name in names))


@lru_cache(maxsize=16)
def _context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


async def open_stream(
    address: tuple[str, int], tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a raw connection, after the TLS handshake where there is one; raise OSError."""
    return await asyncio.open_connection(*address, ssl=tls)


async def role_of(node: Node) -> str:
    """Return primary, replica or sentinel, as the node says; raise RedisError when it is down."""
    client = direct(node)
    try:
        reply = await client.role()
    finally:
        await client.aclose()
    name = str(reply[0])
    return ROLES.get(name, name)
