"""The configuration: the same on every worker within a second of a change, Redis or not.

The database is the truth. A worker answers from memory and looks at the database's version twice a
second, and at once when it is told of a change. Redis carries that notice, and has a copy of every
value that is no secret, written again until it took it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from runtime.config import rows as rows
from runtime.config.schema import ITEMS, ConfigError, checked, defaults_of
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.settings import Settings
from runtime.storage.database import Database, DatabaseUnavailable
from runtime.supervision import Loop, wait_until

log = logging.getLogger(__name__)

ACTION = "config"
LOOK_EVERY_S = 0.5
RENEW_EVERY_S = 5.0

# KEYS[1]: copy of one value; ARGV: when it was changed (ms), the copy.
# A worker that is late never replaces a newer copy.
COPY = """
local stored = redis.call('GET', KEYS[1])
local at = stored and tonumber(string.match(stored, '^{"updated_at":(%d+)')) or -1
if at > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

OnChange = Callable[[frozenset[str]], None]


class ConfigStore:
    """Reads are from memory. Changes raise ConfigError or DatabaseUnavailable."""

    def __init__(
        self, database: Database, redis: RedisClient | None, keys: Keys, settings: Settings
    ) -> None:
        self._database = database
        self._redis = redis
        self._keys = keys
        self._instance = settings.instance_id
        self._reset = settings.reset_config_on_start
        self._scope = rows.LASTING if settings.enable_persistent_config else rows.PASSING
        self._defaults = {key: checked(key, value) for key, value in defaults_of(settings).items()}
        self._values = dict(self._defaults)
        self._stored = rows.Stored(-1, {})
        self._invalid: dict[str, str] = {}
        self._listeners: list[OnChange] = []
        self._uncopied: set[str] = set()
        self._wake = asyncio.Event()
        self._looked = self._renewed = 0.0
        self._started_at = 0.0

    # reading

    def __getitem__(self, key: str) -> Any:
        """Return a value; it always has the key's type."""
        return self._values[key]

    def all(self) -> dict[str, Any]:
        """Return every value."""
        return dict(self._values)

    @property
    def version(self) -> int:
        """Version of the last change that this worker knows."""
        return self._stored.version

    def changed_at(self, *keys: str) -> int:
        """Return the version of the last change of any of the keys."""
        found = (self._stored.rows.get(key) for key in keys)
        return max((row.version for row in found if row), default=0)

    def on_change(self, listener: OnChange) -> None:
        """Call `listener(keys)` whenever values changed, whoever changed them."""
        self._listeners.append(listener)

    # life

    async def open(self) -> None:
        """Enter this worker, store defaults that nobody stored yet, and read everything."""
        texts = {key: _text(value) for key, value in self._defaults.items()}
        seeds = texts if self._scope == rows.LASTING else {}
        await self._database.write(lambda c: rows.join(c, self._instance, seeds, reset=self._reset))
        self._started_at = time.time()
        self._renewed = time.monotonic()
        await self._load()
        self._uncopied.update(ITEMS)

    async def close(self) -> None:
        """Take this worker out; what does not outlive a deployment goes with the last one."""
        with contextlib.suppress(DatabaseUnavailable):  # its lease runs out
            await self._database.write(lambda c: rows.leave(c, self._instance))

    async def keep(self, loop: Loop) -> None:
        """Notice the changes of others, copy what Redis does not have. Runs for ever."""
        while True:
            with contextlib.suppress(DatabaseUnavailable):
                await self.look()
                await self._renew()
                loop.succeeded()
            with contextlib.suppress(RedisUnavailable):
                await self._copy()
            await wait_until(self._wake, LOOK_EVERY_S)

    # changing

    async def set(self, changes: Mapping[str, Any]) -> None:
        """Change values, all or none; known here at once and everywhere within a second."""
        texts = {key: _text(checked(key, value)) for key, value in changes.items()}
        await self._database.write(lambda c: rows.write(c, self._scope, texts))
        await self._load()
        self._wake.set()

    def look_now(self) -> None:
        """Have the database looked at: somebody says that something changed."""
        self._wake.set()

    def copy_again(self) -> None:
        """Have all copies written anew: Redis may have lost them, or we a notice."""
        self._uncopied.update(ITEMS)
        self._wake.set()

    async def look(self) -> None:
        """Read everything if the database's version is another one than ours."""
        if await self._database.read(rows.version_of) != self.version:
            await self._load()
        self._looked = time.monotonic()

    async def _load(self) -> None:
        stored = await self._database.read(lambda c: rows.read(c, self._scope))
        if stored.version >= self.version:  # else a newer one overtook us
            self._apply(stored)
        self._looked = time.monotonic()

    def _apply(self, stored: rows.Stored) -> None:
        before, self._stored = self._values, stored
        self._values = {key: self._value(key) for key in self._defaults}
        changed = frozenset(k for k, value in self._values.items() if value != before[k])
        self._uncopied |= changed
        for listener in self._listeners if changed else ():
            try:
                listener(changed)
            except Exception:  # the others must hear of it too
                log.exception("a listener of the configuration failed")

    def _value(self, key: str) -> Any:
        """Return the stored value; what cannot be used is as good as not stored."""
        row = self._stored.rows.get(key)
        if row is None:
            return self._defaults[key]
        try:
            value = checked(key, orjson.loads(row.value))
        except (ConfigError, orjson.JSONDecodeError) as error:
            if self._invalid.get(key) != row.value:  # once per value
                log.warning("stored configuration %s is not used: %s", key, error)
            self._invalid[key] = row.value
            return self._defaults[key]
        self._invalid.pop(key, None)
        return value

    # copies and notices

    async def _copy(self) -> None:
        """Copy what changed into Redis, then tell everybody; raise RedisUnavailable."""
        if self._redis is None or not self._uncopied:
            return
        keys = sorted(self._uncopied)
        self._uncopied.clear()
        commands = [self._command(key) for key in keys if not ITEMS[key].secret]
        notice = orjson.dumps({"action": ACTION, "version": self.version})
        try:
            await self._redis.pipeline(commands)
            await self._redis.pipeline([("PUBLISH", self._keys.task_commands, notice)])
        except BaseException:
            self._uncopied.update(keys)
            raise

    def _command(self, key: str) -> tuple[str | bytes | int, ...]:
        row = self._stored.rows.get(key)
        at = int((row.updated_at if row else self._started_at) * 1000)
        copy = orjson.dumps({"updated_at": at, "value": self._values[key]})
        return ("EVAL", COPY, 1, self._keys.config(key), at, copy)

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed > RENEW_EVERY_S:
            await self._database.write(lambda c: rows.renew(c, self._instance))
            self._renewed = time.monotonic()

    def status(self) -> dict[str, Any]:
        """Return the version, how old that knowledge is, and what is wrong."""
        return {
            "version": self.version,
            "age_s": round(time.monotonic() - self._looked, 3),
            "persistent": self._scope == rows.LASTING,
            "invalid": sorted(self._invalid),
            "uncopied": len(self._uncopied) if self._redis else 0,
        }


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
