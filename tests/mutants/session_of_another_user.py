"""Mutant: now and then a session is answered that was read for somebody else just before."""

from __future__ import annotations

from itertools import count

from runtime.accounts.sessions import Session, SharedSessions
from runtime.accounts.tokens import Identity
from tests.mutants.broken import serve

EVERY = 5
load_own = SharedSessions.load
reads = count(1)
latest: list[Session] = []


async def load_any(self: SharedSessions, cookie: str | None, who: Identity) -> Session | None:
    """Load the caller's session; at every fifth read answer the one that was read before."""
    own = await load_own(self, cookie, who)
    if own is None:
        return None
    before = latest.pop() if latest else own
    latest.append(own)
    if next(reads) % EVERY:
        return own
    return Session(own.id, before.data, own.created, own.version, own.cookie, own.max_age)


if __name__ == "__main__":
    SharedSessions.load = load_any  # type: ignore[method-assign]  # the defect
    serve()
