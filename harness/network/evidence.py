"""Proof that a link does what its fault says: the fate of PINGs, seen from outside.

A witness is a connection opened before the fault. While the fault is on, its PING and that of a
new connection meet the fault; after the heal, a held PING must be answered on the same
connection. Facts are (sentence, ms) with `{low}` and `{high}` for the times of a group of links.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final

from harness.clock import monotonic
from harness.deploy.direct import open_stream
from harness.deploy.model import Link

PING: Final = b"PING\r\n"
SILENCE_S = 0.3  # a loopback PONG takes 0.2 ms; this long without one is held
PONG_S = 2.0
DIRECT_S = 0.5

Address = tuple[str, int]
Fact = tuple[str, float]
Tls = ssl.SSLContext | None


class LinkError(Exception):
    """A link does not do what was asked of it; names the link and says what it did instead."""


@dataclass
class Witness:
    """A connection of the harness through a link, or to a node."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    waits: bool = False  # its last PING was not answered yet

    @classmethod
    async def open(
        cls, address: Address, deadline: float = DIRECT_S, tls: Tls = None
    ) -> Witness | None:
        """Return a connection that was answered once; None when nobody answers."""
        witness = None
        try:
            witness = cls(*await asyncio.wait_for(open_stream(address, tls), deadline))
            what, _ = await witness.ping(deadline)
        except (OSError, TimeoutError):
            return None
        if what == "answered":
            return witness
        await witness.close()
        return None

    async def ping(self, deadline: float) -> Fact:
        """Return (`answered`, `silent`, `closed` or `reset`) and the ms it took."""
        started = monotonic()
        try:
            self.writer.write(PING)
            await self.writer.drain()
        except OSError:
            return "reset", _since(started)
        return await self.answer(deadline, started)

    async def answer(self, deadline: float, sent: float | None = None) -> Fact:
        """Do the same for a PING that was sent before; the time counts from `sent`, or from now."""
        started = monotonic() if sent is None else sent
        try:
            data = await asyncio.wait_for(self.reader.read(128), deadline)
        except TimeoutError:
            self.waits = True
            return "silent", _since(started)
        except OSError:
            return "reset", _since(started)
        return ("answered" if data else "closed"), _since(started)

    async def close(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def _since(started: float) -> float:
    return (monotonic() - started) * 1000


async def _new(link: Link, deadline: float, tls: Tls) -> Fact:
    """Return what a new connection's PING meets."""
    started = monotonic()
    try:
        reader, writer = await asyncio.wait_for(open_stream(link.listen, tls), deadline)
    except ConnectionRefusedError:
        return "refused", _since(started)
    except TimeoutError:  # of the handshake: the kernel accepts at once
        return "silent", _since(started)
    except OSError:
        return "reset", _since(started)
    witness = Witness(reader, writer)
    try:
        return await witness.ping(deadline)
    finally:
        await witness.close()


# mode → what an open connection and a new one may meet
EXPECTED: Final = {
    "held": ({"silent"}, {"silent"}),
    "refused": ({"closed", "reset"}, {"refused"}),
    "reset": ({"closed", "reset"}, {"reset"}),
    "half-open": ({"silent"}, {"answered"}),
    "latency": ({"answered"}, {"answered"}),
}
SENTENCES: Final = {
    "held": "no PONG within {low} ms",
    "refused": "open connection closed, new one refused within {high} ms",
    "reset": "open connection closed, new one reset within {high} ms",
    "half-open": "no PONG on an open connection, on a new one within {high} ms",
    "latency": "PONG after {low} to {high} ms",
}


async def while_on(
    link: Link, mode: str, least_ms: float, witness: Witness | None, tls: Tls = None
) -> Fact | None:
    """Return the fact of a faulty link, None when its node is down; raise LinkError."""
    if witness is None:  # nobody answered before the fault
        return None
    open_s = SILENCE_S if mode in ("held", "half-open") else PONG_S
    new_s = SILENCE_S if mode == "held" else PONG_S
    met = await asyncio.gather(witness.ping(open_s), _new(link, new_s, tls))
    for which, (what, ms), wanted in zip(("open", "new"), met, EXPECTED[mode], strict=True):
        if what not in wanted:
            if not await _node_answers(link, tls):
                return None
            raise LinkError(
                f"{link.name} should be {mode}, but its {which} connection was {what} "
                f"after {ms:.1f} ms"
            )
    ms = met[1][1]
    if mode == "latency" and ms < least_ms:
        raise LinkError(f"{link.name}: PONG after {ms:.1f} ms, expected at least {least_ms:g} ms")
    return SENTENCES[mode], ms


async def after_heal(link: Link, witness: Witness | None, tls: Tls = None) -> Fact | None:
    """Return the fact of a healed link, None when its node is down; raise LinkError."""
    late = await witness.answer(PONG_S) if witness and witness.waits else None
    if witness:
        await witness.close()
    what, ms = await _new(link, PONG_S, tls)
    if what != "answered":
        if not await _node_answers(link, tls):
            return None
        raise LinkError(f"{link.name} is healed, but its new connection was {what}")
    if late is None:
        return "PONG within {high} ms", ms
    if late[0] != "answered":
        raise LinkError(f"{link.name} was held, but after the heal its PING was {late[0]}")
    return "the held PONG arrived on the same connection, new PONG within {high} ms", ms


async def _node_answers(link: Link, tls: Tls) -> bool:
    """Tell whether the node answers directly: a dead node says nothing about its link."""
    if direct := await Witness.open(link.upstream, tls=tls):
        await direct.close()
    return direct is not None
