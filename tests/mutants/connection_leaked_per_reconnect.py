"""Mutant: every reconnect to Redis opens a second connection and forgets it, open."""

from __future__ import annotations

from runtime.redis.topology import Key, Topology
from runtime.redis.wire import Wire
from tests.mutants.broken import serve

open_one = Topology.open
opened: set[str] = set()
forgotten: list[Wire] = []


async def open_two_when_again(self: Topology, key: Key, purpose: str, decode: bool = False) -> Wire:
    """Open a connection; another one that nobody closes, if there was one for this purpose."""
    wire = await open_one(self, key, purpose, decode)
    if purpose in opened:
        forgotten.append(await open_one(self, key, purpose, decode))
    opened.add(purpose)
    return wire


if __name__ == "__main__":
    Topology.open = open_two_when_again  # type: ignore[method-assign]  # the defect
    serve()
