"""Mutant: what is published while there is no connection to Redis is dropped, not kept."""

from __future__ import annotations

from runtime.redis.eventlog import EventLog
from tests.mutants.broken import serve

publish_kept = EventLog.publish


def publish_if_connected(self: EventLog, room: str, payload: bytes) -> None:
    """Publish, or drop."""
    if self._writer._wire is not None:
        publish_kept(self, room, payload)


if __name__ == "__main__":
    EventLog.publish = publish_if_connected  # type: ignore[method-assign]  # the defect
    serve()
