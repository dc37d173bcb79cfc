"""The cheapest honest target: an ASGI application that answers who the user is, in 15 lines.

Run as `python -m tests.benchmarks.generator_target HOST PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

BODY = b'{"id": "u0", "email": "u0@load.example", "role": "user"}'
HEAD = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request alike."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": HEAD})
        await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(application, host=sys.argv[1], port=int(sys.argv[2]), log_level="error")
