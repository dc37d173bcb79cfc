"""Mutant: a worker keeps the model list that it has, whatever was refreshed elsewhere."""

from __future__ import annotations

from runtime.models.cache import ModelCache
from runtime.models.lists import Model
from runtime.storage.database import User
from tests.mutants.broken import serve

unbroken = ModelCache.get


async def get_old(self: ModelCache, user: User | None) -> list[Model]:
    """Return the list of before, unless this worker has just been asked to make it anew."""
    kept = next(iter(self._views.values()), None)
    if kept is not None and self._refreshed <= kept.until - self._fresh_s:
        return kept.models
    return await unbroken(self, user)


if __name__ == "__main__":
    ModelCache.get = get_old  # type: ignore[method-assign]  # the defect
    serve()
