"""What a signal does to processes that listen, of Redis nodes or of workers: kill, or pause."""

from __future__ import annotations

import asyncio
import signal
from abc import abstractmethod

from harness.deploy.model import Process
from harness.faults.base import Fault
from harness.faults.proofs import Listener, proof_of_death, proof_of_silence


class SignalFault(Fault):
    """A fault on processes that listen at an address."""

    @abstractmethod
    def listeners(self) -> list[Listener]:
        """Return what it aims at; raise FaultError when one of them was never started."""

    def end(self, process: Process, number: int) -> None:
        """Send a signal that is meant to end a process."""
        self.context.expect_exit(process)
        process.signal(number)


class Killing(SignalFault):
    """SIGKILL of all at once; what heals it differs."""

    async def inject(self) -> None:
        """Kill them."""
        self._killed = self.listeners()
        for each in self._killed:
            self.end(each.process, signal.SIGKILL)

    async def confirm(self) -> str:
        """Prove it by exit status -9 and a refused connection."""
        return "; ".join(await asyncio.gather(*map(proof_of_death, self._killed)))


class Pausing(SignalFault):
    """SIGSTOP of all at once: sockets stay open and nothing is answered; healed by SIGCONT."""

    async def inject(self) -> None:
        """Stop them."""
        self._paused = self.listeners()
        self._send(signal.SIGSTOP)

    async def confirm(self) -> str:
        """Prove it by process state T and a question without an answer."""
        return "; ".join(await asyncio.gather(*map(proof_of_silence, self._paused)))

    async def heal(self) -> None:
        """Continue them."""
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        for each in self._paused:
            each.process.signal(number)
