"""Mutant: a stop is one pub/sub message; nothing is written, nobody asks again."""

from __future__ import annotations

import contextlib

from runtime.redis.errors import RedisUnavailable
from runtime.tasks.stops import REQUESTED, StopIntents
from tests.mutants.broken import serve


async def publish_once(self: StopIntents, task_id: str) -> str:
    """Publish and forget."""
    with contextlib.suppress(RedisUnavailable):
        await self._redis.pipeline(self._messages([("stop", task_id, {})]))
    return REQUESTED


if __name__ == "__main__":
    StopIntents.request = publish_once  # type: ignore[method-assign]  # the defect
    serve()
