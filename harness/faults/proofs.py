"""Evidence about processes, taken from outside: ended, stopped, answering or not."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from typing import Any

from harness.deploy.direct import open_stream
from harness.deploy.model import Process
from harness.faults.base import FaultError
from harness.waiting import WaitTimeout, wait_for

Address = tuple[str, int]
Tls = ssl.SSLContext | None  # how a server's connections are encrypted

DEATH_S = 3.0
SILENCE_S = 0.3  # this long without an answer is the evidence of a pause
STATE_S = 1.0
PING = b"PING\r\n"


async def expect(predicate: Callable[[], Any], deadline: float, label: str) -> Any:
    """Wait for something that the fault needs; raise FaultError when it does not come."""
    try:
        return await wait_for(predicate, deadline, label)
    except WaitTimeout as error:
        raise FaultError(str(error)) from error


async def proof_of_death(name: str, process: Process, address: Address, tls: Tls = None) -> str:
    """Prove a SIGKILL by exit status -9 and by how the address turns connections away."""
    try:
        status = await process.wait(DEATH_S)
    except WaitTimeout as error:
        raise FaultError(f"{name} (pid {process.pid}) survived SIGKILL: {error}") from error
    if status != -signal.SIGKILL:
        raise FaultError(f"{name} ended with status {status}, not by SIGKILL (-9)")
    how = await turns_away(name, address, tls)
    return f"{name} (pid {process.pid}) ended by SIGKILL and {how}"


async def turns_away(name: str, address: Address, tls: Tls = None) -> str:
    """Wait until an address takes no connections; return how it turns them away."""
    label = f"{name} takes no connections"
    how: str = await expect(lambda: _turned_away(address, tls), DEATH_S, label)
    return how


async def _turned_away(address: Address, tls: Tls) -> str:
    """Return how a connection to a dead server fares; nothing while somebody may be there.

    A container engine goes on listening at a published port, and closes what it accepts.
    """
    try:
        async with asyncio.timeout(SILENCE_S):
            return "" if await _answer(address, PING, tls) else "closes connections unanswered"
    except ConnectionRefusedError:
        return "refuses connections"
    except ConnectionResetError:
        return "resets connections"
    except (OSError, TimeoutError):
        return ""


async def proof_of_silence(
    name: str,
    process: Process,
    address: Address,
    words: bytes = PING,
    what: str = "PONG",
    tls: Tls = None,
) -> str:
    """Prove a SIGSTOP by process state T and by words that get no answer (`what`)."""

    async def stopped() -> bool:
        return await process.state() == "T"

    await expect(stopped, STATE_S, f"{name} is stopped (state T)")
    if await answers_within(address, SILENCE_S, words, tls):
        raise FaultError(f"{name} (pid {process.pid}) is stopped and still gives {what}")
    silence = f"no {what} within {SILENCE_S * 1000:.0f} ms"
    return f"{name} (pid {process.pid}) is in state T, {silence}"


async def answers_within(
    address: Address, seconds: float, words: bytes = PING, tls: Tls = None
) -> bool:
    """Send raw words: a stopped server's kernel still accepts the connection, nobody answers."""
    try:
        async with asyncio.timeout(seconds):
            return await _answer(address, words, tls)
    except (OSError, TimeoutError):
        return False


async def _answer(address: Address, words: bytes, tls: Tls) -> bool:
    """Tell whether anything comes back for words on a new connection, or only its end.

    Every server answers PING somehow: an HTTP server that it is no request, a Redis with a
    password that nobody has logged in.
    """
    reader, writer = await open_stream(address, tls)
    try:
        writer.write(words)
        return bool(await reader.read(16))
    finally:
        writer.close()
