"""uvicorn's server, which drains the services before it stops to listen."""

from __future__ import annotations

import logging
import os
import signal
import socket
from types import FrameType

import uvicorn

from runtime.services import Services
from runtime.telemetry.outlet import flush_lines

log = logging.getLogger(__name__)

BY_SIGNAL = 128  # what shells add to the number of the signal that ended a process


class DrainingServer(uvicorn.Server):
    """On SIGTERM: /ready answers 503, running tasks end or are ended, then the server stops."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; end at once at the second.

        What is left then is what a crash leaves: the other workers clean it up.
        """
        if self.should_exit:
            log.warning("%s again: ended without draining", signal.Signals(sig).name)
            flush_lines()  # which `_exit` does not do
            os._exit(BY_SIGNAL + sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while requests are still answered; then close connections and lifespan."""
        try:
            await self._services.drain()
        except Exception:  # the rest of the shutdown has to happen
            log.exception("draining failed")
        await super().shutdown(sockets)
        self._captured_signals.clear()  # a drained end is no death by signal: exit with 0
