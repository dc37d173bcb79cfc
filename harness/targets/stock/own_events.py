"""The other common way to reach sockets of other workers: a subscription of the app's own.

Chosen by STOCK_EVENTS=listener. As with the stops, the listener is a bare loop over messages.
"""

from __future__ import annotations

import json
from typing import Any

from harness.targets.stock.settings import redis

CHANNEL = "events"


async def publish(room: str, payload: Any) -> None:
    """Send an event to a room on every worker."""
    await redis.publish(CHANNEL, json.dumps([room, payload]))


async def listen(sio: Any) -> None:
    """Pass on to this worker's sockets what any worker published."""
    pubsub = redis.pubsub()
    await pubsub.subscribe(CHANNEL)
    async for message in pubsub.listen():
        if message["type"] == "message":
            room, payload = json.loads(message["data"])
            await sio.emit("events", payload, room=room)
