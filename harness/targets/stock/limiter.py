"""Sign-ins are counted in Redis, with the synchronous client; in memory when that fails."""

from __future__ import annotations

import time
from collections import defaultdict

from fastapi import HTTPException
from redis import RedisError

from harness.targets.stock.clients import make_blocking_client

LIMIT, WINDOW_S = 15, 180
redis = make_blocking_client()
memory: dict[str, list[float]] = defaultdict(list)


def count_sign_in(email: str) -> None:
    """Count an attempt; raise 429 when there were too many in the last three minutes."""
    try:
        attempts = _in_redis(f"signins:{email}")
    except RedisError:
        attempts = _in_memory(email)
    if attempts > LIMIT:
        raise HTTPException(429, "too many attempts")


def _in_redis(key: str) -> int:
    attempts = int(redis.incr(key))
    if attempts == 1:
        redis.expire(key, WINDOW_S)
    return attempts


def _in_memory(email: str) -> int:
    now = time.monotonic()
    memory[email] = [t for t in memory[email] if t > now - WINDOW_S] + [now]
    return len(memory[email])
