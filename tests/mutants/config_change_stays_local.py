"""Mutant: only the worker that changed the configuration knows."""

from __future__ import annotations

from runtime.config.store import ConfigStore
from tests.mutants.broken import serve


async def look_away(self: ConfigStore) -> None:
    """Do not ask the database what others changed."""


if __name__ == "__main__":
    ConfigStore.look = look_away  # type: ignore[method-assign]  # the defect
    serve()
