"""The runtime, 30 % slower: each HTTP request takes that much longer until its answer begins.

`python -m tests.slower` takes the options of `runtime`. It is what `harness compare` has to find.
"""

from __future__ import annotations

import asyncio
import time

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.mutants.broken import serve

SLOWER = 0.3
TIMER_S = 0.001  # uvloop's timers count milliseconds; what is shorter is spun

stack_of = FastAPI.build_middleware_stack


class Slower:
    """Holds the start of every answer back for a share of the time that it took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        began = time.perf_counter()

        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await hold(SLOWER * (time.perf_counter() - began))
            await send(message)

        await self._app(scope, receive, late if scope["type"] == "http" else send)


async def hold(seconds: float) -> None:
    """Wait: whole milliseconds asleep, the rest on the processor."""
    until = time.perf_counter() + seconds
    if seconds > 2 * TIMER_S:
        await asyncio.sleep(seconds - TIMER_S)
    while time.perf_counter() < until:
        pass


def slower_stack(self: FastAPI) -> ASGIApp:
    """Return the application's stack with the delay around it."""
    return Slower(stack_of(self))


if __name__ == "__main__":
    FastAPI.build_middleware_stack = slower_stack  # type: ignore[method-assign]  # the defect
    serve()
