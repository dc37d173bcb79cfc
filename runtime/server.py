"""uvicorn's server, which drains the services before it stops to listen."""

from __future__ import annotations

import logging
import socket

import uvicorn

from runtime.services import Services

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """On SIGTERM: /ready answers 503, running tasks end or are ended, then the server stops."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain while requests are still answered; then close connections and lifespan."""
        try:
            await self._services.drain()
        except Exception:  # the rest of the shutdown has to happen
            log.exception("draining failed")
        await super().shutdown(sockets)
        self._captured_signals.clear()  # a drained end is no death by signal: exit with 0
