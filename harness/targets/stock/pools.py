"""Who is online and which models are in use: hashes in Redis, cleaned when somebody goes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid

from redis import RedisError

from harness.targets.stock.settings import redis

SESSIONS, USAGE, LOCK = "session_pool", "usage_pool", "usage_pool:lock"
USED_FOR_S = 3
LOCK_MS = 4000
log = logging.getLogger(__name__)
me = str(uuid.uuid4())


async def joined(sid: str, user: str) -> None:
    """Remember whose socket it is."""
    await redis.hset(SESSIONS, sid, user)


async def left(sid: str) -> None:
    """Forget a socket."""
    await redis.hdel(SESSIONS, sid)


async def online(user: str) -> bool:
    """Tell whether a user has a socket on any worker."""
    return user in await redis.hvals(SESSIONS)


async def roster() -> list[str]:
    """Return everybody who is online."""
    return sorted(set(await redis.hvals(SESSIONS)))


async def uses(model: str) -> None:
    """Remember that a model is in use now."""
    await redis.hset(USAGE, model, json.dumps(time.time()))


async def used() -> list[str]:
    """Return the models in use."""
    return [str(model) for model in await redis.hkeys(USAGE)]


async def clean_usage() -> None:
    """Forget what is no longer used, on the one worker that has the lock."""
    while True:
        if await redis.set(LOCK, me, nx=True, px=LOCK_MS):
            return await _clean_as_holder()
        await asyncio.sleep(1)


async def _clean_as_holder() -> None:
    while True:
        try:
            if not await redis.set(LOCK, me, xx=True, px=LOCK_MS):
                log.error("unable to renew the lock of the clean-up")
                return
            await _forget_unused()
        except RedisError:
            log.exception("the clean-up has ended")
            return
        await asyncio.sleep(1)


async def _forget_unused() -> None:
    for model, text in (await redis.hgetall(USAGE)).items():
        if json.loads(text) < time.time() - USED_FOR_S:
            await redis.hdel(USAGE, model)
