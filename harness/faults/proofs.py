"""Evidence about processes, taken from outside: ended, stopped, answering or not."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Listener:
    """A process that listens, and the raw words that it answers on a new connection."""

    name: str
    process: Process
    address: Address
    tls: Tls = None
    words: bytes = PING
    answer: str = "PONG"  # what evidence calls the answer

    def __str__(self) -> str:
        """Return what evidence calls it."""
        return f"{self.name} (pid {self.process.pid})"


async def expect(predicate: Callable[[], Any], deadline: float, label: str) -> Any:
    """Wait for something that the fault needs; raise FaultError when it does not come."""
    try:
        return await wait_for(predicate, deadline, label)
    except WaitTimeout as error:
        raise FaultError(str(error)) from error


async def proof_of_death(of: Listener) -> str:
    """Prove a SIGKILL by exit status -9 and by how the address turns connections away."""
    try:
        status = await of.process.wait(DEATH_S)
    except WaitTimeout as error:
        raise FaultError(f"{of} survived SIGKILL: {error}") from error
    if status != -signal.SIGKILL:
        raise FaultError(f"{of.name} ended with status {status}, not by SIGKILL (-9)")
    how = await turns_away(of.name, of.address, of.tls)
    return f"{of} ended by SIGKILL and {how}"


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


async def proof_of_silence(of: Listener) -> str:
    """Prove a SIGSTOP by process state T and by words that get no answer."""
    await expect_stopped(of.process, of.name)
    if await answers_within(of.address, SILENCE_S, of.words, of.tls):
        raise FaultError(f"{of} is stopped and still gives {of.answer}")
    return f"{of} is in state T, no {of.answer} within {SILENCE_S * 1000:.0f} ms"


async def expect_stopped(process: Process, name: str) -> None:
    """Wait until SIGSTOP has reached a process; raise FaultError when it does not."""

    async def stopped() -> bool:
        return await process.state() == "T"

    await expect(stopped, STATE_S, f"{name} is stopped (state T)")


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
