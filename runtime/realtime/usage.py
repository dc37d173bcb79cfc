"""Which models are in use: a sorted set per model, written in the background.

`P:usage_pool` holds each model with the server's second of its last use, and
`{P:usage_pool}:model:MODEL` the sockets that use it. Workers only add and remove their own
members, so no update of another one is lost.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from runtime.realtime.leader import FENCED, NO_FENCE, Deposed
from runtime.realtime.write_behind import write_behind
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.supervision import Loop, Supervisor

TIMEOUT_S = 30  # a client says `usage` again before that, or leaves
LONGEST_MODEL = 256  # characters
MODELS_PER_SOCKET = 16

# KEYS usage pool, model's sockets; ARGV model, ttl, sids
_USE = """
local now = redis.call('TIME')[1]
redis.call('ZADD', KEYS[1], now, ARGV[1])
for i = 3, #ARGV do redis.call('ZADD', KEYS[2], now, ARGV[i]) end
for i = 1, 2 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return 1
"""
# KEYS usage pool, model's sockets; ARGV model, sids. The last one out takes the model along.
_LEAVE = """
for i = 2, #ARGV do redis.call('ZREM', KEYS[2], ARGV[i]) end
if redis.call('ZCARD', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
"""
# KEYS usage pool; ARGV timeout
_IN_USE = """
return redis.call('ZRANGEBYSCORE', KEYS[1], redis.call('TIME')[1] - ARGV[1], '+inf')
"""
# KEYS usage pool, model's sockets, fence; ARGV fence, model, timeout. What a clock that was ahead
# wrote counts as used now: it would be in use until the clock is there again.
_PRUNE = (
    FENCED
    + """
local now = tonumber(redis.call('TIME')[1])
for i = 1, 2 do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], '(' .. now, '+inf')) do
    redis.call('ZADD', KEYS[i], now, member)
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. (now - ARGV[3]))
if redis.call('ZCARD', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[2]) end
return 1
"""
)


class UsagePool:
    """What the sockets of this worker use, and what everybody uses."""

    def __init__(
        self, client: RedisClient | None, keys: Keys, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._client = client
        self._keys = keys
        self._timeout = timeout_s
        self._local: dict[str, dict[str, float]] = {}  # model → sid → time.monotonic()
        self._by_sid: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = {}  # what Redis does not have yet
        self._left: dict[str, set[str]] = {}
        self._wake = asyncio.Event()

    def use(self, sid: str, model: str) -> bool:
        """Note that a socket uses a model; False when it names too much."""
        models = self._by_sid.setdefault(sid, set())
        known = model in models or len(models) < MODELS_PER_SOCKET
        if not model or len(model) > LONGEST_MODEL or not known:
            return False
        models.add(model)
        self._local.setdefault(model, {})[sid] = time.monotonic()
        self._mark(self._used, model, sid)
        return True

    def remove(self, sid: str) -> None:
        """Note that a socket is gone."""
        for model in self._by_sid.pop(sid, ()):
            self._forget(model, sid)
            self._used.get(model, set()).discard(sid)
            self._mark(self._left, model, sid)

    def _forget(self, model: str, sid: str) -> None:
        users = self._local.get(model, {})
        users.pop(sid, None)
        if not users:
            self._local.pop(model, None)

    def _mark(self, what: dict[str, set[str]], model: str, sid: str) -> None:
        if self._client:
            what.setdefault(model, set()).add(sid)
            self._wake.set()

    async def models(self) -> list[str]:
        """Return the models in use on any worker, sorted. Raises RedisUnavailable."""
        found = {m for m, users in self._local.items() if max(users.values()) > self._limit()}
        if self._client is not None:
            ask = ("EVAL", _IN_USE, 1, self._keys.usage_pool, self._timeout)
            found |= set((await self._client.pipeline([ask]))[0])
        return sorted(found)

    def _limit(self) -> float:
        return time.monotonic() - self._timeout

    # --- the mirror ------------------------------------------------------------------------

    def start(self, supervisor: Supervisor) -> None:
        """Begin to write in the background."""
        if self._client:
            supervisor.run("usage pool", self._write_forever)

    async def _write_forever(self, loop: Loop) -> None:
        await write_behind(loop, self._wake, self.flush)

    async def flush(self) -> None:
        """Write what Redis does not have yet; keep it if Redis does not answer."""
        used, self._used = self._used, {}
        left, self._left = self._left, {}
        commands = [self._eval(_USE, m, int(2 * self._timeout), *s) for m, s in used.items() if s]
        commands += [self._eval(_LEAVE, model, *sids) for model, sids in left.items()]
        if not commands or self._client is None:
            return
        try:
            await self._client.pipeline(commands)
        except RedisUnavailable:
            for model, sids in left.items():
                self._left.setdefault(model, set()).update(sids)
            for model, sids in used.items():
                here = {sid for sid in sids if model in self._by_sid.get(sid, ())}
                self._used.setdefault(model, set()).update(here)
            raise

    def _eval(self, script: str, model: str, *words: Any) -> tuple[Any, ...]:
        pool, sockets = self._keys.usage_pool, self._keys.usage_pool_model(model)
        return ("EVAL", script, 2, pool, sockets, model, *words)

    # --- cleaning, by the leader ------------------------------------------------------------

    async def clean(self, fence: int) -> None:
        """Forget what was not used for a while. Raises Deposed, RedisUnavailable."""
        self._clean_here()
        if self._client is None:
            return
        pool, guard = self._keys.usage_pool, self._keys.usage_pool_fence
        (models,) = await self._client.pipeline([("ZRANGE", pool, 0, -1)])
        commands = [
            (
                *("EVAL", _PRUNE, 3, pool, self._keys.usage_pool_model(model), guard),
                *(fence, model, self._timeout),
            )
            for model in models
        ]
        if NO_FENCE in map(int, await self._client.pipeline(commands)):
            raise Deposed

    def _clean_here(self) -> None:
        """Forget this worker's own old uses; without Redis nobody else does."""
        limit = self._limit()
        for model, users in list(self._local.items()):
            for sid in [sid for sid, at in users.items() if at < limit]:
                self._by_sid.get(sid, set()).discard(model)
                self._forget(model, sid)
