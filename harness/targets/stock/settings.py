"""What the stock app is told by its environment, and its one Redis client."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from redis.asyncio import Redis

REDIS_URL = os.environ["REDIS_URL"]
SECRET_KEY = os.environ["SECRET_KEY"]
DATABASE = os.environ["DATABASE"]
PROVIDER = os.environ["OPENAI_API_BASE_URL"]
OWN_EVENTS = os.environ.get("STOCK_EVENTS") == "listener"  # else python-socketio's Redis manager
BY_HOST = os.environ.get("STOCK_REDIS_CLIENT") == "host"  # else made with from_url()


def make_redis() -> Redis:
    """Return a client, made in one of the two usual ways; both have the library's defaults."""
    if BY_HOST:
        url = urlsplit(REDIS_URL)
        return Redis(host=url.hostname or "", port=url.port or 6379, decode_responses=True)
    return Redis.from_url(REDIS_URL, decode_responses=True)


redis: Redis = make_redis()
