"""What the stock app is told by its environment, and its one Redis client."""

from __future__ import annotations

import os

from redis.asyncio import Redis

REDIS_URL = os.environ["REDIS_URL"]
SECRET_KEY = os.environ["SECRET_KEY"]
DATABASE = os.environ["DATABASE"]
PROVIDER = os.environ["OPENAI_API_BASE_URL"]

redis: Redis = Redis.from_url(REDIS_URL, decode_responses=True)
