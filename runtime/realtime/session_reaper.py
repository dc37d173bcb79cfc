"""What the leader does for the session pool: remove what no living worker renews."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from runtime.realtime import session_scripts as scripts
from runtime.realtime.leader import NO_FENCE, Deposed
from runtime.realtime.session_pool import Command, Record, SessionPool
from runtime.redis.server_clock import ServerClock

log = logging.getLogger(__name__)

AT_MOST = 500  # candidates a round; the rest is for the next one
SCANNED = 200


class SessionReaper:
    """Runs only under a fence; a paused leader that wakes up too late removes nothing.

    `on_reaped` gets the records that were removed, `on_dead` the instances.
    """

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._fence = 0
        self._ripe = 0.0
        self.clock = ServerClock()
        self.on_reaped: Callable[[list[Record]], None] = lambda _: None
        self.on_dead: Callable[[str], None] = lambda _: None
        self.removed = 0

    async def __call__(self, fence: int) -> None:
        """Look once. Raises Deposed, RedisUnavailable."""
        if self._pool.client is None:
            return
        if fence != self._fence:
            await self._begin(fence)
        sids, instances = await self._silent()
        if time.monotonic() < self._ripe:
            return
        for instance in instances:
            await self._bury(fence, instance)
        await self._reap(fence, sids)

    async def _silent(self) -> tuple[list[str], list[str]]:
        """Return sockets and workers that look dead."""
        asked = time.monotonic()
        limits = (self._pool.timeout_s, self._pool.lease_s, AT_MOST)
        keys = (self._keys.session_pool_seen, self._keys.session_pool_instances)
        now, sids, instances = await self._ask("EVAL", scripts.SILENT, 2, *keys, *limits)
        if self.clock.stepped(int(now), asked):
            log.warning("Redis's clock was set: nobody is taken for dead for a while")
            self._wait()
        return sids, instances

    async def _begin(self, fence: int) -> None:
        """Look at everything anew."""
        await self._adopt()
        self._fence = fence
        self._wait()

    def _wait(self) -> None:
        """Give everybody the time of a lease: after an outage all of them look dead."""
        self._ripe = time.monotonic() + self._pool.lease_s

    async def _adopt(self) -> None:
        """Give a score to records that have none, as those of an older version."""
        client, cursor = self._pool.client, 0
        assert client
        while True:
            at = cursor
            cursor, chunk = await client.run(
                lambda r, at=at: r.hscan(self._keys.session_pool, at, count=SCANNED),  # type: ignore[misc]  # bound now
                idempotent=True,
            )
            if chunk:
                await self._ask("EVAL", scripts.ADOPT, 1, self._keys.session_pool_seen, *chunk)
            if not cursor:
                return

    async def _bury(self, fence: int, instance: str) -> None:
        """Remove the sockets of a worker whose lease is over, then the worker."""
        index = self._keys.session_pool_instance(instance)
        sids = await self._ask("ZRANGE", index, 0, AT_MOST - 1)
        await self._reap(fence, sids)
        if len(sids) < AT_MOST and await self._is_buried(fence, instance):
            log.warning("worker %s is gone, and so are its %d sockets", instance, len(sids))
            self.on_dead(instance)

    async def _is_buried(self, fence: int, instance: str) -> bool:
        """Forget a worker, unless it is back."""
        keys = (self._keys.session_pool_instances, self._keys.session_pool_fence)
        words = (fence, instance, self._pool.lease_s)
        reply = int(await self._ask("EVAL", scripts.BURY, 2, *keys, *words))
        if reply == NO_FENCE:
            raise Deposed
        return bool(reply)

    async def _reap(self, fence: int, sids: list[str]) -> None:
        if not sids:
            return
        texts = await self._ask("HMGET", self._keys.session_pool, *sids)
        records = {sid: _record(text) for sid, text in zip(sids, texts, strict=True)}
        commands = [self._command(fence, sid, record) for sid, record in records.items()]
        assert self._pool.client
        replies = [int(reply) for reply in await self._pool.client.pipeline(commands)]
        if NO_FENCE in replies:
            raise Deposed
        gone = [r for r, reply in zip(records.values(), replies, strict=True) if reply]
        self.removed += len(gone)
        self.on_reaped(gone)

    def _command(self, fence: int, sid: str, record: Record) -> Command:
        keys = [
            *self._pool.keys.of(record["id"], record["instance"], record["rooms"]),
            self._keys.session_pool_instances,
            self._keys.session_pool_fence,
        ]
        who = (sid, record["id"], record["instance"])
        limits = (self._pool.timeout_s, self._pool.lease_s)
        return ("EVAL", scripts.REAP, len(keys), *keys, fence, *who, *limits)

    @property
    def _keys(self) -> Any:
        return self._pool.keys.all

    async def _ask(self, *words: Any) -> Any:
        assert self._pool.client
        return (await self._pool.client.pipeline([words]))[0]


def _record(text: str | None) -> Record:
    """Return a record with all that removing it needs, whatever stands there."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        found = {}
    found = found if isinstance(found, dict) else {}
    rooms = [room for room in found.get("rooms") or [] if isinstance(room, str)]
    return {"id": str(found.get("id", "")), "instance": str(found.get("instance", "")),
            "name": str(found.get("name", "")), "rooms": rooms}  # fmt: skip
