"""The provider's models, kept in one Redis hash for all workers."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from fastapi import APIRouter

from harness.targets.stock.settings import PROVIDER, redis
from harness.targets.stock.users import Current

KEY = "models"
router = APIRouter(prefix="/api/models")
written: dict[str, str] = {}  # what this worker wrote last: nothing is written twice


@router.get("")
async def models(_user: Current, refresh: bool = False) -> dict[str, Any]:
    """Return the models that all workers know; ask the provider when there are none."""
    if refresh or not written:
        await _ask_provider()
    found = await redis.hgetall(KEY)
    return {"data": [json.loads(text) for text in found.values()]}


async def _ask_provider() -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{PROVIDER}/models") as answer:
        listed = (await answer.json())["data"]
    found = {str(model["id"]): json.dumps(model) for model in listed}
    if found == written:
        return
    await redis.delete(KEY)
    for name, text in found.items():
        await redis.hset(KEY, name, text)
    written.clear()
    written.update(found)
