"""Who is connected where: a hash in Redis, written in the background, never waited for."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

import orjson

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.redis.wire import Argument

log = logging.getLogger(__name__)

LEASE_S = 30
RENEW_S = 5.0
COALESCE_S = 0.05
RETRY_S = 0.25
REAP_S = 30.0
CHUNK = 500


class SessionPool:
    """The sockets of one worker, mirrored to Redis; without a client only in memory."""

    def __init__(self, client: RedisClient | None, keys: Keys, instance: str) -> None:
        self._client = client
        self._keys = keys
        self._instance = instance
        self._local: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._suspects: set[str] = set()
        self.last_success = 0.0

    def __len__(self) -> int:
        return len(self._local)

    def __contains__(self, sid: object) -> bool:
        return sid in self._local

    def add(self, sid: str, user: str, name: str, role: str) -> None:
        """Note a socket of a user, or that it is still alive."""
        self._local[sid] = {"id": user, "name": name, "role": role, "instance": self._instance}
        self.touch(sid)

    def touch(self, sid: str) -> None:
        """Note a sign of life (heartbeat)."""
        if record := self._local.get(sid):
            record["last_seen_at"] = int(time.time())
            self._mark(sid)

    def remove(self, sid: str) -> None:
        """Note that the socket is gone."""
        if self._local.pop(sid, None) is not None:
            self._mark(sid)

    def _mark(self, sid: str) -> None:
        if self._client:
            self._changed.add(sid)
            self._wake.set()

    def _mark_all(self) -> None:
        """Write everything again: the server may have lost it."""
        self._changed.update(self._local)
        self._wake.set()

    async def start(self) -> None:
        """Begin to write in the background."""
        if not self._client:
            return
        self._forget = self._client.topology.on_change(self._mark_all)
        self._tasks = [
            asyncio.create_task(self._write_loop(), name="session pool writer"),
            asyncio.create_task(self._lease_loop(), name="session pool lease"),
            asyncio.create_task(self._reap_loop(), name="session pool reaper"),
        ]

    async def stop(self) -> None:
        """Remove this worker's records, if Redis answers within a second."""
        if not self._client:
            return
        self._forget()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        mine = list(self._local.keys() | self._changed)
        self._local.clear()
        commands = [self._deletion(mine[i : i + CHUNK]) for i in range(0, len(mine), CHUNK)]
        try:
            await self._client.pipeline([*commands, ("DEL", self._keys.instance(self._instance))])
        except RedisUnavailable as error:
            log.info("session pool not cleaned: %s", error.reason)

    def _deletion(self, sids: list[str]) -> tuple[Argument, ...]:
        return ("HDEL", self._keys.session_pool, *sids)

    async def _write_loop(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(COALESCE_S)
            self._wake.clear()
            try:
                await self._flush()
            except RedisUnavailable:
                self._wake.set()
                await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))
            except Exception:  # a strange reply must not end the mirror
                log.exception("session pool")

    async def _flush(self) -> None:
        """Write what changed, in chunks that keep the loop responsive."""
        while self._changed:
            chunk = [self._changed.pop() for _ in range(min(CHUNK, len(self._changed)))]
            commands = self._commands(chunk)
            written = False
            try:
                assert self._client
                await self._client.pipeline(commands)
                written = True
            finally:
                if not written:
                    self._changed.update(chunk)
            self.last_success = time.monotonic()

    def _commands(self, sids: list[str]) -> list[tuple[Argument, ...]]:
        alive: list[Argument] = []
        for sid in sids:
            if record := self._local.get(sid):
                alive += (sid, orjson.dumps(record))
        gone = [sid for sid in sids if sid not in self._local]
        commands: list[tuple[Argument, ...]] = []
        if alive:
            commands.append(("HSET", self._keys.session_pool, *alive))
        if gone:
            commands.append(self._deletion(gone))
        return commands

    async def _lease_loop(self) -> None:
        """Renew the lease, and notice when Redis lost our records."""
        assert self._client
        while True:
            try:
                _, size = await self._client.pipeline(
                    [
                        ("SET", self._keys.instance(self._instance), "1", "EX", LEASE_S),
                        ("HLEN", self._keys.session_pool),
                    ]
                )
                if int(size) < len(self._local):
                    self._mark_all()
                self.last_success = time.monotonic()
            except RedisUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            await asyncio.sleep(RENEW_S * random.uniform(0.8, 1.2))

    async def _reap_loop(self) -> None:
        """Remove the records of instances whose lease was gone twice in a row."""
        while True:
            await asyncio.sleep(REAP_S * random.uniform(0.8, 1.2))
            try:
                await self.reap()
            except RedisUnavailable as error:
                log.info("session pool not reaped: %s", error.reason)
            except Exception:  # a strange record must not end the reaping
                log.exception("session pool reaper")

    async def reap(self) -> int:
        """Look once; returns how many records of dead instances were removed."""
        owners = await self._owners()
        instances = sorted(owners)
        assert self._client
        alive = await self._client.pipeline([("EXISTS", self._keys.instance(i)) for i in instances])
        dead = {i for i, there in zip(instances, alive, strict=True) if not there}
        confirmed, self._suspects = dead & self._suspects, dead
        sids = [sid for instance in confirmed for sid in owners[instance]]
        for start in range(0, len(sids), CHUNK):
            await self._client.pipeline([self._deletion(sids[start : start + CHUNK])])
        return len(sids)

    async def _owners(self) -> dict[str, list[str]]:
        """Return instance → socket ids, read in chunks."""
        assert self._client
        owners: dict[str, list[str]] = {}
        cursor = 0
        while True:
            at = cursor
            cursor, chunk = await self._client.run(
                lambda r, at=at: r.hscan(self._keys.session_pool, at, count=200),  # type: ignore[misc]  # bound now
                idempotent=True,
            )
            for sid, text in chunk.items():
                owners.setdefault(str(orjson.loads(text).get("instance")), []).append(sid)
            if not cursor:
                return owners
