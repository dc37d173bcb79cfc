"""Mutant: every exchange with Redis opens a connection of its own, and closes it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.redis.client import RedisClient, key_of
from tests.mutants.broken import serve

exchange = RedisClient._exchange


async def exchange_anew(self: RedisClient, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Open, exchange, close."""
    wire = await self.topology.open(key_of(commands[0]), "once")
    try:
        return await exchange(self, commands)
    finally:
        wire.drop()


if __name__ == "__main__":
    RedisClient._exchange = exchange_anew  # type: ignore[method-assign]  # the defect
    serve()
