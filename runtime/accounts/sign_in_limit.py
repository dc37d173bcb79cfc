"""The limit on sign-in attempts: per account and address, and if wanted per address.

Never per account alone: then anybody could lock its owner out.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from runtime.limits.rate_limit import RateLimit, network_of
from runtime.limits.window import Window
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.settings import Settings
from runtime.supervision import Loop, wait_until

MERGE_EVERY_S = 1.0


class SignInLimit:
    """Both limits in one. Successful attempts count as well: each costs a password hash."""

    def __init__(self, redis: RedisClient | None, keys: Keys, settings: Settings) -> None:
        def limit(name: str, attempts: int) -> RateLimit:
            window = Window(
                attempts,
                settings.signin_rate_limit_window * 1000,
                min(settings.signin_rate_limit_bucket, settings.signin_rate_limit_window) * 1000,
            )
            return RateLimit(
                redis, keys, name, window,
                instance=settings.instance_id, secret=settings.webui_secret_key,
            )  # fmt: skip

        self._pair = limit("signin", settings.signin_rate_limit)
        by_address = settings.signin_rate_limit_address
        self._address = limit("signin-address", by_address) if by_address else None
        self._merge_now = asyncio.Event()

    @property
    def _limits(self) -> list[RateLimit]:
        return [self._pair, *([self._address] if self._address else [])]

    async def take(self, email: str, address: str) -> int:
        """Count an attempt; return after how many seconds to come again, 0 when admitted."""
        network = network_of(address)
        if self._address is not None:
            decision = await self._address.take(network)
            if not decision.admitted:
                return decision.retry_after_s
        decision = await self._pair.take(email, network)
        return 0 if decision.admitted else decision.retry_after_s

    def reassert(self) -> None:
        """Have all our counts written again: Redis may have lost them."""
        for limit in self._limits:
            limit.reassert()
        self._merge_now.set()

    async def merge_forever(self, loop: Loop) -> None:
        """Bring what was counted without Redis to it, once it is back. Runs for ever."""
        while True:
            with contextlib.suppress(RedisUnavailable):  # next round
                for limit in self._limits:
                    await limit.merge()
                loop.succeeded()
            await wait_until(self._merge_now, MERGE_EVERY_S)

    def status(self) -> dict[str, Any]:
        """Return the state of each limit by name."""
        return {limit.name: limit.status() for limit in self._limits}
