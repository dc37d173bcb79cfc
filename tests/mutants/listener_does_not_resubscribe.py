"""Mutant: the listener for other workers' events ends for good when its connection is lost."""

from __future__ import annotations

import logging

from runtime.redis.errors import RedisUnavailable
from runtime.redis.eventlog import Reader
from tests.mutants.broken import serve

log = logging.getLogger(__name__)


async def listen_once(self: Reader) -> None:
    """Follow the log over one connection."""
    try:
        await self._connection()
    except RedisUnavailable as error:
        log.warning("%s ended: %s", self.purpose, error.reason)


if __name__ == "__main__":
    Reader.run = listen_once  # type: ignore[assignment,method-assign]  # the defect
    serve()
