"""One connection to one node, with a deadline on everything. No pool, no hidden retries."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from runtime.deadline import Deadline
from runtime.redis.errors import RedisDenied, RedisUnavailable, explain, translate
from runtime.redis.tls import Tls

Address = tuple[str, int]
Argument = str | bytes | int | float


def shown(address: Address) -> str:
    """Return host:port, with brackets around an IPv6 host."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Dial:
    """How to open connections: credentials, TLS and timeouts in seconds."""

    username: str | None = None
    password: str | None = None
    db: int = 0
    tls: Tls | None = None
    connect_timeout: float = 0.5
    timeout: float = 1.0
    keepalive: bool = True
    health_check: float | None = None  # an unused connection is checked after this
    reconnect_delay: float | None = None  # between two attempts; None: as each loop likes
    instance: str = "runtime"

    def pause(self, usual: float) -> float:
        """Return how long to wait before another attempt, with jitter, in seconds."""
        delay = usual if self.reconnect_delay is None else self.reconnect_delay
        return delay * random.uniform(0.5, 1.0)


class Wire:
    """A connection that is open from `open` until its first failure or `drop`."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None
        self.address: Address = (str(connection.host), int(connection.port))

    @property
    def is_open(self) -> bool:
        """Whether neither side is known to have closed it."""
        writer = self._connection._writer  # noqa: SLF001 - no public accessor
        return writer is not None and not writer.transport.is_closing()

    def drop(self) -> None:
        """Close at once, from anywhere; a reader that waits on it fails with ConnectionError.

        A graceful close would wait for unsent bytes, so a held link would keep the socket, and
        deliver them late. redis-py closes so when it is cancelled, and forgets the writer.
        """
        self.note_transport()
        if self._transport is not None:
            self._transport.abort()
            self._connection._writer = None  # noqa: SLF001 - closed: no warning when collected

    def note_transport(self) -> None:
        """Remember what has to be aborted, once there is a connection."""
        writer = self._connection._writer  # noqa: SLF001 - no public accessor
        if writer is not None:
            self._transport = writer.transport

    async def call(self, *words: Argument, within: float | None = None) -> Any:
        """Return the raw reply; raise ResponseError, or RedisUnavailable after closing.

        `within` in seconds; also on cancellation the connection is closed, because its next
        reply would belong to this command.
        """
        reply = (await self.call_many([words], within))[0]
        if isinstance(reply, Exception):
            raise translate(reply) or reply
        return reply

    async def call_many(
        self, commands: Sequence[Sequence[Argument]], within: float | None = None
    ) -> list[Any]:
        """Return one raw reply, or the ResponseError, per command; sent in one write."""
        packed = b"".join(_packed(words) for words in commands)
        finished = False
        try:
            async with Deadline(self._timeout if within is None else within):
                await self._send(packed)
                replies = [await self._reply() for _ in commands]
            finished = True
        except (OSError, EOFError, RedisConnectionError) as error:
            raise translate(error) or error from error
        finally:
            if not finished:
                self.drop()
        return replies

    async def send(self, *words: Argument) -> None:
        """Write a command whose replies `read` returns (SUBSCRIBE)."""
        await self.write([words])

    async def write(self, commands: Sequence[Sequence[Argument]]) -> None:
        """Write commands whose replies `next_reply` returns; written before the first pause."""
        try:
            await self._send(b"".join(_packed(words) for words in commands))
        except (OSError, RedisConnectionError) as error:
            self.drop()
            raise translate(error) or error from error

    async def next_reply(self) -> Any:
        """Return the next reply, however long it takes; raise ResponseError if it is one."""
        return await self._connection.read_response(timeout=math.inf)

    async def read(self, within: float) -> Any:
        """Return the next reply, or None after `within` seconds (the connection stays open)."""
        try:
            return await self._connection.read_response(timeout=within, disconnect_on_error=False)
        except (OSError, EOFError, RedisConnectionError) as error:
            self.drop()
            raise translate(error) or error from error

    async def _send(self, packed: bytes) -> None:
        if not self.is_open:  # else redis-py would silently dial again
            raise RedisUnavailable("connection is closed", refused=True)
        await self._connection.send_packed_command(packed, check_health=False)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except ResponseError as error:
            return error


def _packed(words: Sequence[Argument]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # its stub is wrong
    return packed


def _arguments(address: Address, dial: Dial, purpose: str, decode: bool) -> dict[str, Any]:
    return {
        "host": address[0],
        "port": address[1],
        "db": dial.db,
        "username": dial.username,
        "password": dial.password,
        "socket_timeout": None,  # every call has its own deadline
        "socket_connect_timeout": dial.connect_timeout,
        "socket_keepalive": dial.keepalive,
        "client_name": f"{dial.instance}:{purpose}",
        "driver_info": None,  # spares two round trips
        "decode_responses": decode,
        "encoding_errors": "surrogateescape",  # values that are no text come through unharmed
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }


def _connection(address: Address, dial: Dial, purpose: str, decode: bool) -> Connection:
    arguments = _arguments(address, dial, purpose, decode)
    if dial.tls is None:
        return Connection(**arguments)
    connection = SSLConnection(**arguments)
    connection.ssl_context.context = dial.tls.context()  # else read anew for each connection
    return connection


async def open_wire(address: Address, dial: Dial, purpose: str, decode: bool = False) -> Wire:
    """Return an authenticated connection, named `{instance}:{purpose}` for CLIENT LIST.

    Raises RedisUnavailable(refused=True) when it cannot be opened within the connect timeout
    (the dial and the TLS handshake) and the timeout (all of it); RedisDenied when the server does
    not accept our credentials.
    """
    connection = _connection(address, dial, purpose, decode)
    wire = Wire(connection, dial.timeout)
    opened = False
    try:
        async with Deadline(dial.timeout):
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py is half typed
        wire.note_transport()
        opened = True
    except Exception as error:  # redis-py wraps some, not all
        raise _not_opened(address, dial, error) from error
    finally:
        if not opened:
            with contextlib.suppress(Exception):  # closed already is fine
                wire.drop()
    return wire


def _not_opened(address: Address, dial: Dial, error: Exception) -> RedisUnavailable:
    found = translate(error)
    reason = found.reason if found else explain(error)
    if dial.tls and isinstance(error, RedisTimeout):  # plain Redis waits for more of a ClientHello
        reason += " (does the port speak TLS?)"
    kind = RedisDenied if isinstance(found, RedisDenied) else RedisUnavailable
    return kind(f"{shown(address)}: {reason}", refused=True, code=found.code if found else "")
