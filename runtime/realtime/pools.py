"""Maps that all workers share: text → JSON value, in one Redis hash or, alone, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from runtime.redis.client import RedisClient

# KEYS hash; ARGV field, value, … The whole map changes at once, so writers never mix.
_REPLACE = """
redis.call('DEL', KEYS[1])
for i = 1, #ARGV, 2000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 1999, #ARGV)))
end
return #ARGV / 2
"""
# KEYS hash; ARGV field, value. The value that stands there afterwards.
_SET_DEFAULT = """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
"""


class SharedMap(Protocol):
    """What a dict can, asynchronously. Methods raise RedisUnavailable; values are JSON."""

    async def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""

    async def set(self, key: str, value: Any) -> None:
        """Set a value."""

    async def delete(self, *keys: str) -> int:
        """Remove keys; return how many there were."""

    async def contains(self, key: str) -> bool:
        """Tell whether a key is there."""

    async def length(self) -> int:
        """Return the number of keys."""

    async def items(self) -> dict[str, Any]:
        """Return everything."""

    async def update(self, values: Mapping[str, Any]) -> None:
        """Set several values at once."""

    async def setdefault(self, key: str, value: Any) -> Any:
        """Set a value unless there is one; return the one that stands. Atomic."""

    async def replace(self, values: Mapping[str, Any]) -> None:
        """Make the map equal to `values`. Atomic: readers see the old or the new one."""


class MemoryMap:
    """One worker's own map; values are copied by way of JSON, as if they had travelled."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        found = self._values.get(key)
        return default if found is None else orjson.loads(found)

    async def set(self, key: str, value: Any) -> None:
        """Set a value."""
        self._values[key] = orjson.dumps(value)

    async def delete(self, *keys: str) -> int:
        """Remove keys; return how many there were."""
        return sum(self._values.pop(key, None) is not None for key in keys)

    async def contains(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self._values

    async def length(self) -> int:
        """Return the number of keys."""
        return len(self._values)

    async def items(self) -> dict[str, Any]:
        """Return everything."""
        return {key: orjson.loads(value) for key, value in self._values.items()}

    async def update(self, values: Mapping[str, Any]) -> None:
        """Set several values at once."""
        self._values.update(_encoded(values))

    async def setdefault(self, key: str, value: Any) -> Any:
        """Set a value unless there is one; return the one that stands."""
        return orjson.loads(self._values.setdefault(key, orjson.dumps(value)))

    async def replace(self, values: Mapping[str, Any]) -> None:
        """Make the map equal to `values`."""
        self._values = _encoded(values)


class RedisMap:
    """All workers' map. Every change is one command or one script, so none is half done."""

    def __init__(self, client: RedisClient, key: str) -> None:
        self._client = client
        self._key = key

    async def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        found = await self._one("HGET", self._key, key)
        return default if found is None else orjson.loads(found)

    async def set(self, key: str, value: Any) -> None:
        """Set a value."""
        await self._one("HSET", self._key, key, orjson.dumps(value))

    async def delete(self, *keys: str) -> int:
        """Remove keys; return how many there were."""
        return int(await self._one("HDEL", self._key, *keys)) if keys else 0

    async def contains(self, key: str) -> bool:
        """Tell whether a key is there."""
        return bool(await self._one("HEXISTS", self._key, key))

    async def length(self) -> int:
        """Return the number of keys."""
        return int(await self._one("HLEN", self._key))

    async def items(self) -> dict[str, Any]:
        """Return everything."""
        found = await self._one("HGETALL", self._key)
        return {key: orjson.loads(value) for key, value in found.items()}

    async def update(self, values: Mapping[str, Any]) -> None:
        """Set several values at once."""
        if values:
            await self._one("HSET", self._key, *_flat(values))

    async def setdefault(self, key: str, value: Any) -> Any:
        """Set a value unless there is one; return the one that stands."""
        text = orjson.dumps(value)
        return orjson.loads(await self._one("EVAL", _SET_DEFAULT, 1, self._key, key, text))

    async def replace(self, values: Mapping[str, Any]) -> None:
        """Make the map equal to `values`."""
        await self._one("EVAL", _REPLACE, 1, self._key, *_flat(values))

    async def _one(self, *words: Any) -> Any:
        """Run one command; all of them may be repeated without harm."""
        return (await self._client.pipeline([words]))[0]


def shared_map(client: RedisClient | None, key: str) -> SharedMap:
    """Return the map under a key, in memory without Redis."""
    return MemoryMap() if client is None else RedisMap(client, key)


def _encoded(values: Mapping[str, Any]) -> dict[str, bytes]:
    return {key: orjson.dumps(value) for key, value in values.items()}


def _flat(values: Mapping[str, Any]) -> list[str | bytes]:
    return [part for pair in _encoded(values).items() for part in pair]
