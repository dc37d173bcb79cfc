"""Mutant: the event log carries messages without the sender's trace."""

from __future__ import annotations

from runtime.realtime import manager
from tests.mutants.broken import serve


def plain(payload: bytes) -> bytes:
    """Return the message as it is."""
    return payload


if __name__ == "__main__":
    manager.with_parent = plain  # the defect
    serve()
