"""Why the stock app loses stops without any fault, and what TLS adds: redis-py on a real server.

The app publishes each token of an answer, and a stop cancels the task of the answer, once. See
docs/bugs.md, "Red without a fault".
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from bus_servers import serving
from redis.asyncio import Redis
from secure_parts import Security

TURNS = range(4)  # of the loop, from the begin of a publication to the stop
HIDES = sys.version_info < (3, 12)  # asyncio.wait_for() hides a cancellation beside the result


async def stopped(redis: Any, turns: int) -> bool:
    """Tell whether an answer ends that is stopped `turns` after it began to publish a token."""
    publishes, went_on = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        await redis.publish("socketio", "the first token, for a connection")
        publishes.set()
        await redis.publish("socketio", "a token")
        went_on.set()
        await asyncio.Event().wait()  # for the next one

    task, past = asyncio.create_task(answer()), asyncio.create_task(went_on.wait())
    await publishes.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task, past}, return_when=asyncio.FIRST_COMPLETED)
    for _ in TURNS:  # a stop that came after the publication is not lost
        await asyncio.sleep(0)
    ended = task.cancelled()
    for each in (task, past):
        each.cancel()
    await asyncio.wait({task, past})
    return ended


@pytest.mark.parametrize(("options", "loses"), [({}, HIDES), ({"socket_timeout": None}, False)])
async def test_a_stop_around_the_write_is_lost(
    options: dict[str, Any], loses: bool, tmp_path: Path
) -> None:
    """With redis-py's own timeout and a Python before 3.12 only, and every time."""
    async with serving(tmp_path) as server:
        redis = Redis.from_url(server.url, decode_responses=True, **options)
        ended = [await stopped(redis, turns) for turns in TURNS]
        await redis.aclose()
    assert all(ended) != loses, ended


async def test_every_connection_with_tls_reads_all_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop. A stop in the middle of a command costs a connection, so a new one follows."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        made, make = [], ssl.create_default_context
        monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(1) or make())
        redis = Redis.from_url(server.url)
        for number in range(1, 4):
            await redis.ping()
            assert len(made) == number
            await redis.aclose()  # the next command connects anew
            redis.connection_pool.reset()
