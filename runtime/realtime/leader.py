"""One worker at a time does the periodic work: a lease with a fencing token.

The lease is one hash, `P:leader:NAME`: `holder`, `until` (milliseconds of the server's clock) and
`fence`, a number that grows with every new holder. Only the server's clock is compared, so clocks
of hosts do not matter. A holder that was paused and wakes up too late still carries its old fence:
what it writes is refused by the scripts of its job, which remember the highest fence they have
seen (`FENCED`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.supervision import Loop, Supervisor

log = logging.getLogger(__name__)

RETRY_S = 0.25
LOCAL_FENCE = 1  # without Redis there is nobody to compete with
NO_FENCE = -1  # what a fenced script answers to a holder of before

# KEYS lease; ARGV candidate, ttl in ms. The answer: fence (0: somebody else leads), ms left. More
# left than a lease can have is of a clock that was set back since, or of another server's.
_CLAIM = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'holder', 'until', 'fence')
local left = tonumber(held[2] or '0') - now
local fence = tonumber(held[3] or '0')
if left > tonumber(ARGV[2]) then left = 0 end
if left > 0 and held[1] ~= ARGV[1] then return {0, left} end
if left <= 0 or held[1] ~= ARGV[1] then fence = math.max(fence + 1, now) end
local text = string.format('%.0f', fence)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', text,
           'until', string.format('%.0f', now + ARGV[2]))
return {text, tonumber(ARGV[2])}
"""
# KEYS lease; ARGV candidate. The fence stays: it must not go back.
_RELEASE = """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'until', '0')
"""

# Begins a job's script: the last key remembers the highest fence, the first argument is ours.
FENCED = """
if tonumber(redis.call('GET', KEYS[#KEYS]) or '0') > tonumber(ARGV[1]) then return -1 end
redis.call('SET', KEYS[#KEYS], ARGV[1], 'EX', 86400)
"""


class Deposed(Exception):
    """A newer leader has already worked: what we led is not ours any more."""


class Leader:
    """Campaigns for ever: claims, renews at a third of the lease, notices every loss.

    Without a client this worker is alone and always leads. `life` is the holder's name: an
    instance id that is used twice must not share a lease.
    """

    def __init__(self, client: RedisClient | None, keys: Keys, life: str, ttl_s: float) -> None:
        self._client = client
        self._key = keys.leader("maintenance")
        self._life = life
        self._ttl = ttl_s
        self._fence = LOCAL_FENCE if client is None else 0
        self._until = 0.0
        self._stopped = False
        self._changed = asyncio.Event()
        self.elections = 0

    @property
    def fence(self) -> int:
        """Our fencing token, 0 when we do not lead (as far as we know)."""
        if self._client is None or time.monotonic() < self._until:
            return self._fence
        return 0

    async def wait(self) -> int:
        """Return the fence as soon as we lead."""
        while not (fence := self.fence):
            self._changed.clear()
            await self._changed.wait()
        return fence

    def depose(self) -> None:
        """Give up at once what a fenced script says we lost."""
        self._until = 0.0

    async def campaign(self, loop: Loop) -> None:
        """Claim and renew the lease. Runs for ever; an outage only delays it."""
        while self._client is not None and not self._stopped:
            try:
                left = await self._claim(self._client)
                loop.succeeded()
            except RedisUnavailable:
                left = RETRY_S
            await asyncio.sleep(left * random.uniform(0.9, 1.1))
        await asyncio.Event().wait()

    async def _claim(self, client: RedisClient) -> float:
        """Try once; return how many seconds to wait before the next try."""
        asked = time.monotonic()
        before = self.fence
        reply = await client.run(
            lambda r: r.eval(_CLAIM, 1, self._key, self._life, int(self._ttl * 1000)),
            idempotent=True,
        )
        fence, left_s = int(reply[0]), int(reply[1]) / 1000
        if not fence or self._stopped:
            self._until = 0.0
            return min(left_s, self._ttl / 3) + RETRY_S
        # counted from before the question, less a margin: we stop before others may start
        self._fence, self._until = fence, asked + self._ttl * 0.9
        if fence != before:
            self.elections += 1
            log.info("leading the periodic work, fence %d", fence)
            self._changed.set()
        return self._ttl / 3

    async def release(self) -> None:
        """Let another worker lead at once, if Redis answers."""
        self._stopped = True
        led, self._until = self.fence, 0.0
        if not led or self._client is None:
            return
        try:
            await self._client.run(lambda r: r.eval(_RELEASE, 1, self._key, self._life))
        except RedisUnavailable as error:
            log.info("the lease of the leader was not released: %s", error.reason)


Job = Callable[[int], Awaitable[None]]


def run_when_leading(
    supervisor: Supervisor, leader: Leader, name: str, period_s: float, job: Job
) -> None:
    """Run `job(fence)` every `period_s` seconds on whichever worker leads, for ever."""

    async def body(loop: Loop) -> None:
        while True:
            fence = await leader.wait()
            try:
                await job(fence)
                loop.succeeded()
            except Deposed:
                leader.depose()
            except RedisUnavailable as error:
                log.info("%s: %s", name, error.reason)
            await asyncio.sleep(period_s * random.uniform(0.8, 1.2))

    supervisor.run(name, body)
