"""Model lists: asked for once, shared by all workers, dropped everywhere when they change.

A list carries a tag: which providers it is of, and the configuration version of the last refresh.
The tag follows from the configuration, which all workers share, so an invalidation needs no
message of its own and no Redis: a list with another tag is simply not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from redis.exceptions import ResponseError

from runtime.config import schema as schema
from runtime.config.store import ConfigStore
from runtime.models.lists import (
    ANSWER_WITHIN_S,
    Connection,
    ListError,
    Lists,
    Model,
    ModelLists,
    connections,
    name_of,
)
from runtime.models.provider import ProviderError, Route
from runtime.realtime.pools import SharedMap
from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisUnavailable
from runtime.redis.keys import Keys
from runtime.settings import Settings
from runtime.storage.database import User

log = logging.getLogger(__name__)

VIEWS = 1000  # lists remembered, where each user has one of its own
LOCK_MS = int(ANSWER_WITHIN_S * 1000) + 1000
WAIT_S = 2.0  # for the worker that is asking already; it may have died
LOOK_EVERY_S = 0.05
REFRESH_PAUSE_S = 1.0
COUNTED = ("hits", "shared_hits", "misses", "waits", "redis_errors", "provider_errors")

# KEYS: list, tag, lock; ARGV: tag, who asks, life of the lock in ms.
# Reply: the list with this tag, else false and whether the caller may ask the providers. In one
# step: between two, another worker could store the list and leave the lock.
READ_OR_LOCK = """
local list = redis.pcall('GET', KEYS[1])
if type(list) == 'string' and redis.call('GET', KEYS[2]) == ARGV[1] then return {list, 0} end
local locked = redis.call('SET', KEYS[3], ARGV[2], 'NX', 'PX', ARGV[3])
return {false, locked and 1 or 0}
"""

# KEYS: list, tag, lock; ARGV: list, tag, TTL in ms or 0, who has the lock.
STORE = """
for place = 1, 2 do
  if ARGV[3] == '0' then redis.call('SET', KEYS[place], ARGV[place])
  else redis.call('SET', KEYS[place], ARGV[place], 'PX', ARGV[3]) end
end
if redis.call('GET', KEYS[3]) == ARGV[4] then redis.call('DEL', KEYS[3]) end
return 1
"""


@dataclass(frozen=True)
class Entry:
    """One remembered list; fresh until a time.monotonic()."""

    models: list[Model]
    tag: str
    until: float


class ModelCache:
    """Answers from memory, else from Redis, else from the providers; one caller asks for all.

    Raises ListError when no provider answers. Redis errors are counted, never raised.
    """

    def __init__(
        self,
        config: ConfigStore,
        redis: RedisClient | None,
        keys: Keys,
        settings: Settings,
        registry: SharedMap,
    ) -> None:
        self._registry = registry
        self._config = config
        self._redis = redis
        self.on_lock_wait: Callable[[float], None] = lambda _: None  # seconds
        self._keys = (keys.base_models, keys.base_models_tag, keys.base_models_lock)
        self._instance = settings.instance_id
        self._secret = hashlib.sha256(settings.webui_secret_key.encode()).digest()
        self._fresh_s = settings.models_cache_ttl
        self._ttl_ms = settings.base_models_cache_ttl * 1000
        self._per_user = settings.enable_forward_user_info_headers
        self._source = ModelLists()
        self._views: OrderedDict[str, Entry] = OrderedDict()
        self._flights: dict[tuple[str, str], asyncio.Task[list[Model]]] = {}
        self._tagged = (-2, "")
        self._refreshed = -REFRESH_PAUSE_S
        self._counts: Counter[str] = Counter()

    async def get(self, user: User | None) -> list[Model]:
        """Return the models that the providers list for this user."""
        view = user.id if user and self._per_user else ""
        tag = self._tag()
        entry = self._views.get(view)
        if entry and entry.tag == tag and time.monotonic() < entry.until:
            self._counts["hits"] += 1
            return entry.models
        try:
            return await asyncio.shield(self._flight(view, tag, user))
        except ListError:
            if entry and entry.tag == tag:  # old, but of these providers and this refresh
                return entry.models
            raise

    async def route(self, model: str) -> Route:
        """Return who answers a model: whoever lists it, else the first; raise ProviderError."""
        found = self._connections()
        if not found:
            raise ProviderError("no provider is configured; set OPENAI_API_BASE_URLS")
        first = found[0]
        if len(found) > 1 or first.options.prefix_id:
            with contextlib.suppress(ListError):
                for entry in await self.get(None):
                    if entry["id"] == model and entry["urlIdx"] < len(found):
                        one = found[entry["urlIdx"]]
                        return Route(one.url, one.key, name_of(entry["openai"]))
        return Route(first.url, first.key, model)

    async def refresh(self, *, at_once: bool) -> None:
        """Drop every worker's lists; unless `at_once`, not more often than once a second."""
        if not at_once and time.monotonic() - self._refreshed < REFRESH_PAUSE_S:
            return
        self._refreshed = time.monotonic()
        times = self._config[schema.MODELS_REFRESHED]
        await self._config.set({schema.MODELS_REFRESHED: times + 1})

    async def warm(self) -> None:
        """Have the list ready before the first user asks, where that is configured."""
        if not self._config[schema.BASE_MODELS_CACHE] or self._per_user:
            return
        try:
            await self.get(None)
        except ListError as error:
            log.warning("no models at start: %s", error)

    async def close(self) -> None:
        """End what is being asked."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._source.close()

    def status(self) -> dict[str, Any]:
        """Return how often each thing happened, and the hit rate."""
        hits = self._counts["hits"] + self._counts["shared_hits"]
        asked = hits + self._counts["misses"]
        found: dict[str, Any] = {name: self._counts[name] for name in COUNTED}
        return {**found, "hit_rate": round(hits / asked, 4) if asked else None}

    # one flight per view and tag

    def _flight(self, view: str, tag: str, user: User | None) -> asyncio.Task[list[Model]]:
        """Return the task that gets the list; whoever comes meanwhile shares it."""
        flight = self._flights.get((view, tag))
        if flight is None:
            flight = asyncio.create_task(self._load(view, tag, user), name="model list")
            self._flights[view, tag] = flight
            flight.add_done_callback(lambda done: self._landed(view, tag, done))
        else:
            self._counts["waits"] += 1
        return flight

    def _landed(self, view: str, tag: str, done: asyncio.Task[list[Model]]) -> None:
        del self._flights[view, tag]
        if done.cancelled() or done.exception():  # whoever waits gets it; maybe nobody does
            return
        self._views[view] = Entry(done.result(), tag, time.monotonic() + self._fresh_s)
        self._views.move_to_end(view)
        if len(self._views) > VIEWS:
            self._views.popitem(last=False)

    async def _load(self, view: str, tag: str, user: User | None) -> list[Model]:
        if self._redis is None or view or not self._config[schema.BASE_MODELS_CACHE]:
            return (await self._fetch(user)).models
        try:
            return await self._shared(self._redis, tag)
        except (RedisUnavailable, ResponseError):
            self._counts["redis_errors"] += 1
            return (await self._fetch(user)).models

    async def _fetch(self, user: User | None) -> Lists:
        """Ask the providers; raise ListError when none of them answers."""
        self._counts["misses"] += 1
        found = self._connections()
        lists = await self._source.fetch(found, self._headers(user))
        self._counts["provider_errors"] += len(lists.failed)
        if lists.failed and len(lists.failed) == len(found):
            raise ListError("; ".join(lists.failed))
        if not lists.failed and not self._per_user:
            await self._register(lists.models)
        return lists

    def _connections(self) -> list[Connection]:
        """Return the providers as configured; none while they are switched off."""
        config = self._config
        if not config[schema.OPENAI_ENABLED]:
            return []
        return connections(
            config[schema.OPENAI_URLS], config[schema.OPENAI_KEYS], config[schema.OPENAI_OPTIONS]
        )

    async def _register(self, models: list[Model]) -> None:
        """Write the registry of models; after a failure the next list brings it up to date."""
        try:
            await self._registry.replace({model["id"]: model for model in models})
        except (RedisUnavailable, ResponseError):
            self._counts["redis_errors"] += 1

    def _headers(self, user: User | None) -> dict[str, str]:
        if user is None or not self._per_user:
            return {}
        return {
            "X-OpenWebUI-User-Name": quote(user.name, safe=" "),
            "X-OpenWebUI-User-Id": user.id,
            "X-OpenWebUI-User-Email": user.email,
            "X-OpenWebUI-User-Role": user.role,
        }

    # across workers

    async def _shared(self, redis: RedisClient, tag: str) -> list[Model]:
        """Return the list in Redis; where there is none, one worker asks and the others wait."""
        began = time.monotonic()
        models, may_ask = await self._read_or_lock(redis, tag)
        while models is None and not may_ask and time.monotonic() < began + WAIT_S:
            self._counts["waits"] += 1
            await asyncio.sleep(LOOK_EVERY_S)
            models, may_ask = await self._read_or_lock(redis, tag)
        self.on_lock_wait(time.monotonic() - began)
        if models is None:
            return await self._fetch_for_all(redis, tag)
        self._counts["shared_hits"] += 1
        return models

    async def _read_or_lock(self, redis: RedisClient, tag: str) -> tuple[list[Model] | None, bool]:
        """Return the list in Redis, or whether we may ask the providers for it."""
        arguments = (tag, self._instance, LOCK_MS)
        text, locked = await redis.run(lambda r: r.eval(READ_OR_LOCK, 3, *self._keys, *arguments))
        try:
            models = orjson.loads(text) if text is not None else None
        except orjson.JSONDecodeError:  # somebody else wrote it: replace it
            return None, True
        return (models, bool(locked)) if isinstance(models, list) else (None, bool(locked))

    async def _fetch_for_all(self, redis: RedisClient, tag: str) -> list[Model]:
        """Ask the providers and share the list; one that lacks a provider is not shared."""
        try:
            lists = await self._fetch(None)
        except ListError:
            await self._unlock(redis)
            raise
        if lists.failed or tag != self._tag():
            await self._unlock(redis)
        else:
            await self._store(redis, lists.models, tag)
        return lists.models

    async def _store(self, redis: RedisClient, models: list[Model], tag: str) -> None:
        arguments = (orjson.dumps(models), tag, self._ttl_ms, self._instance)
        try:
            await redis.run(lambda r: r.eval(STORE, 3, *self._keys, *arguments), idempotent=True)
        except (RedisUnavailable, ResponseError):
            self._counts["redis_errors"] += 1

    async def _unlock(self, redis: RedisClient) -> None:
        """Let another worker try; if this fails, the lock runs out."""
        script = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
        try:
            await redis.run(lambda r: r.eval(script, 1, self._keys[2], self._instance))
        except (RedisUnavailable, ResponseError):
            self._counts["redis_errors"] += 1

    def _tag(self) -> str:
        """Return the tag that follows from the configuration as this worker knows it."""
        version, tag = self._tagged
        if version != self._config.version:
            keys = schema.PROVIDER_KEYS
            since = self._config.changed_at(schema.MODELS_REFRESHED, *keys)
            text = orjson.dumps([since, *(self._config[key] for key in keys)])
            tag = hashlib.blake2b(text, key=self._secret, digest_size=16).hexdigest()
            self._tagged = (self._config.version, tag)
        return tag
