"""A limit on attempts that is exact across workers, and still limits while Redis is away.

Each bucket is a hash: worker → attempts that this worker admitted in it. A worker writes only its
own field, and only upwards. So a lost answer, a repeated call, counts made while Redis was away
and counts that Redis lost are all merged without counting anything twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import logging
import math
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from runtime.limits.window import Tally, Window
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys

log = logging.getLogger(__name__)

REMEMBERED = 10_000  # keys; the longest unused are forgotten
DEADLINE_S = 2.0  # counting alone admits more, so rather wait
COUNTED = ("admitted", "denied", "fallback_decisions", "merged")
CLOCK_TRIES = 2  # the first may guess the server's bucket wrong

# KEYS: buckets, oldest first, as the caller guesses the time.
# ARGV: worker, limit, bucket in ms, number of the bucket KEYS[1], buckets that count, TTL in ms,
#   1 to take an attempt or 0 to look; then this worker's own count for each key.
# Reply: taken (-1: the guess is wrong), the server's time in ms, the first number that counts,
#   then own and total count of each bucket that counts.
# Nothing is counted for a denied attempt, so denials do not prolong themselves.
SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local worker, limit, first, span = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local here = math.floor(now / tonumber(ARGV[3])) - first + 1
if here < span or here > #KEYS then return {-1, now, 0} end
local sum, reply = 0, {0, now, first + here - span}
for place = here - span + 1, here do
  local own, total = 0, 0
  local fields = redis.call('HGETALL', KEYS[place])
  for i = 1, #fields, 2 do
    total = total + fields[i + 1]
    if fields[i] == worker then own = tonumber(fields[i + 1]) end
  end
  local known = tonumber(ARGV[7 + place])
  if known > own then
    redis.call('HSET', KEYS[place], worker, known)
    redis.call('PEXPIRE', KEYS[place], ARGV[6])
    total, own = total + known - own, known
  end
  sum = sum + total
  reply[#reply + 1] = own
  reply[#reply + 1] = total
end
if ARGV[7] == '1' and sum < limit then
  redis.call('HINCRBY', KEYS[here], worker, 1)
  redis.call('PEXPIRE', KEYS[here], ARGV[6])
  reply[1] = 1
  reply[#reply - 1], reply[#reply] = reply[#reply - 1] + 1, reply[#reply] + 1
end
return reply
"""


@dataclass(frozen=True)
class Decision:
    """What became of one attempt. `retry_after_s` is 0 when it was admitted."""

    admitted: bool
    remaining: int
    retry_after_s: int


class RateLimit:
    """One limit. All workers of a deployment give it the same name, limit, window and secret.

    Keys are hashed with the secret: neither an address nor an e-mail can be read in Redis.
    """

    def __init__(
        self, redis: RedisClient | None, keys: Keys, name: str, window: Window, *,
        instance: str, secret: str,
    ) -> None:  # fmt: skip
        self._redis = redis
        self._keys = keys
        self.name = name
        self._window = window
        self._instance = instance
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self._unmerged: set[str] = set()
        self._offset_ms = 0  # the server's clock less ours
        self._fallback = redis is None
        self._counts: Counter[str] = Counter()

    async def take(self, *parts: str) -> Decision:
        """Count an attempt of whoever the parts name, unless the limit is reached."""
        decision = await self._decide(self._key(parts), take=True)
        self._counts["admitted" if decision.admitted else "denied"] += 1
        return decision

    async def look(self, *parts: str) -> Decision:
        """Return what would become of an attempt now, without counting one."""
        return await self._decide(self._key(parts), take=False)

    async def _decide(self, key: str, *, take: bool) -> Decision:
        tally = self._tally(key)
        if self._redis is not None:
            try:
                return await self._ask(self._redis, key, tally, take)
            except (RedisUnavailable, ResponseError) as error:
                self._fell_back(error)
                self._counts["fallback_decisions"] += 1
        decision = self._alone(tally, take)
        if take and decision.admitted:
            self._unmerged.add(key)
        return decision

    async def _ask(self, redis: RedisClient, key: str, tally: Tally, take: bool) -> Decision:
        """Have Redis decide; raise RedisUnavailable or ResponseError."""
        for _ in range(CLOCK_TRIES):
            reply = await self._call(redis, key, tally, take)
            self._offset_ms = reply[1] - _wall_ms()
            if reply[0] >= 0:
                return self._learned(key, tally, reply, take)
        raise RedisUnavailable("the server's clock jumps")

    async def _call(self, redis: RedisClient, key: str, tally: Tally, take: bool) -> list[int]:
        window = self._window
        guess = window.bucket(self._now_ms())
        numbers = range(guess - window.span, guess + 2)  # right also one bucket off
        keys = [self._keys.rate_limit(key, number) for number in numbers]
        own = [tally.own.get(number, 0) for number in numbers]
        ours: tuple[str | int, ...] = (self._instance, window.limit, window.bucket_ms, numbers[0])
        arguments = (*ours, window.span, window.ttl_ms, int(take), *own)
        reply: list[int] = await redis.run(
            lambda r: r.eval(SCRIPT, len(keys), *keys, *arguments), deadline=DEADLINE_S
        )
        return reply

    def _learned(self, key: str, tally: Tally, reply: list[int], take: bool) -> Decision:
        taken, now_ms, first, *counts = reply
        self._fallback = False
        self._unmerged.discard(key)
        tally.forget_before(first)
        for place, (own, total) in enumerate(zip(counts[::2], counts[1::2], strict=True)):
            tally.learn(first + place, own, total)
        return self._decision(tally.total(), now_ms, bool(taken) if take else None)

    def _alone(self, tally: Tally, take: bool) -> Decision:
        """Decide by what this worker knows."""
        now_ms = self._now_ms()
        tally.forget_before(self._window.counting(now_ms)[0])
        free = self._window.used(tally.total(), now_ms) < self._window.limit
        if take and free:
            number = self._window.bucket(now_ms)
            tally.own[number] = tally.own.get(number, 0) + 1
        return self._decision(tally.total(), now_ms, free)

    def _decision(self, counts: dict[int, int], now_ms: int, admitted: bool | None) -> Decision:
        used = self._window.used(counts, now_ms)
        if admitted is None:
            admitted = used < self._window.limit
        wait_ms = 0 if admitted else self._window.retry_after_ms(counts, now_ms)
        return Decision(admitted, max(0, self._window.limit - used), math.ceil(wait_ms / 1000))

    # merging

    def reassert(self) -> None:
        """Have all our counts written again: Redis may have lost them."""
        self._unmerged.update(self._tallies)

    async def merge(self) -> None:
        """Bring counts that Redis does not have to it; raise RedisUnavailable."""
        if self._redis is None:
            return
        for key in list(self._unmerged):
            if (tally := self._tallies.get(key)) is not None:
                with contextlib.suppress(ResponseError):  # one bad key; the others still count
                    await self._ask(self._redis, key, tally, take=False)
                    self._counts["merged"] += 1
            self._unmerged.discard(key)

    # state

    def status(self) -> dict[str, Any]:
        """Return the limit, what became of attempts, and whether this worker counts alone."""
        return {
            "limit": self._window.limit,
            "window_s": self._window.window_ms / 1000,
            "fallback": self._fallback,
            "keys": len(self._tallies),
            "unmerged": len(self._unmerged),
            **{name: self._counts[name] for name in COUNTED},
        }

    def _fell_back(self, error: Exception) -> None:
        if not self._fallback:  # once per outage
            log.warning("rate limit %s: this worker counts alone: %s", self.name, error)
        self._fallback = True

    def _key(self, parts: tuple[str, ...]) -> str:
        """Return the hashed key; upper and lower case are the same."""
        text = "\0".join(part.strip().casefold() for part in parts)
        digest = hashlib.blake2b(text.encode(), key=self._secret, digest_size=16)
        return f"{self.name}:{digest.hexdigest()}"

    def _tally(self, key: str) -> Tally:
        tally = self._tallies.setdefault(key, Tally())
        self._tallies.move_to_end(key)
        if len(self._tallies) > REMEMBERED:
            old, _ = self._tallies.popitem(last=False)
            self._unmerged.discard(old)
        return tally

    def _now_ms(self) -> int:
        return _wall_ms() + self._offset_ms


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def network_of(address: str) -> str:
    """Return what stands for a client's address: of IPv6 the /64, which one client owns whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
