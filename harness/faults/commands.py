"""Commands to nodes over connections of the harness's own, and what servers say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from harness.deploy.direct import direct, open_stream, tls_of
from harness.deploy.model import Node
from harness.faults.base import FaultError
from harness.faults.proofs import PING

T = TypeVar("T")
TAKEN = ("+PONG", "-NOAUTH")  # a connection that nobody has logged in on counts too


async def command(node: Node, call: Callable[[Redis], Awaitable[T]], **options: Any) -> T:
    """Run commands on one node over a connection of our own; raise FaultError when it refuses.

    `options` go to redis-py, such as a longer `socket_timeout`.
    """
    client = direct(node, **options)
    try:
        return await call(client)
    except (RedisError, OSError) as error:
        raise FaultError(f"{node.name}: {type(error).__name__}: {error}") from error
    finally:
        await client.aclose()


@asynccontextmanager
async def seat_on(node: Node) -> AsyncIterator[Redis]:
    """Give a client whose one connection is open already: a full server takes no new one."""
    client = direct(node, single_connection_client=True)
    try:
        await client.initialize()
        yield client
    except (RedisError, OSError) as error:
        raise FaultError(f"{node.name}: {type(error).__name__}: {error}") from error
    finally:
        await client.aclose()


async def refusal_of(node: Node) -> tuple[str, asyncio.StreamWriter | None]:
    """Open a connection; return why it was refused, or the open connection."""
    with suppress(OSError):  # closed at once, without a word; with TLS before the handshake
        reader, writer = await open_stream(node.address, tls_of(node))
        writer.write(PING)
        answer = (await reader.readline()).decode().strip()
        if answer.startswith(TAKEN):
            return "", writer
        writer.close()
        return answer or "closed unanswered", None
    return "reset", None


async def statistic(client: Redis, name: str) -> int:
    """Return one counter of INFO; 0 from a version that does not have it."""
    return int((await client.info("stats")).get(name, 0))


async def read_settings(client: Redis, names: Iterable[str]) -> dict[str, str]:
    """Return CONFIG GET of these names; unknown ones are left out."""
    found: dict[str, str] = {}
    for name in names:
        found |= {str(k): str(v) for k, v in (await client.config_get(name)).items()}
    return found


async def write_settings(client: Redis, values: Mapping[str, str]) -> None:
    """CONFIG SET each of them."""
    for name, value in values.items():
        await client.config_set(name, value)
