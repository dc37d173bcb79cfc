"""Mutant: every authenticated request asks Redis with a blocking call on the event loop."""

from __future__ import annotations

import contextlib
import os

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from runtime.accounts.tokens import Identity, Tokens
from tests.mutants.broken import serve

TIMEOUT_S = 0.5  # bounded, as a careful author of this defect would have it

verify_without_redis = Tokens.verify


def connect() -> Redis:
    """Return a blocking client of the server that the worker was given; no I/O yet."""
    return Redis.from_url(
        os.environ["REDIS_URL"],
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


async def verify_with_redis(self: Tokens, token: str) -> Identity | None:
    """Look for the token in Redis before the database; an error changes nothing but the time."""
    with contextlib.suppress(RedisError):
        client.exists(f"revoked:{token}")  # blocks the loop until Redis answers
    return await verify_without_redis(self, token)


if __name__ == "__main__":
    client = connect()
    Tokens.verify = verify_with_redis  # type: ignore[method-assign]  # the defect
    serve()
