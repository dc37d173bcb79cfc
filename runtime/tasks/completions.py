"""One chat answer: read from the provider, told to the user's sockets, kept in the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from runtime.models.provider import Provider, ProviderError
from runtime.storage.database import DatabaseUnavailable
from runtime.tasks.response_streams import DELTA, ResponseStreams
from runtime.tasks.store import TaskRow, TaskStore

log = logging.getLogger(__name__)

SAVE_PAUSE_S = 0.3  # doubled after each try, up to
SAVE_PAUSE_MOST_S = 2.0
FAILED = "The answer could not be written: the server met an error, which is in its log."

DONE, CANCELLED, ERROR = "done", "cancelled", "error"
EmitToUser = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What is to be answered, and where the answer goes."""

    task_id: str
    chat_id: str
    message_id: str
    user_id: str
    body: dict[str, Any]  # for the provider


@dataclass(frozen=True)
class Tools:
    """What a completion works with."""

    provider: Provider
    store: TaskStore
    streams: ResponseStreams
    emit: EmitToUser
    ended: Callable[[str], None]  # tells the registry that the outcome is settled


class Completion:
    """Runs one request; `run` is the body of its task."""

    def __init__(self, request: Request, tools: Tools) -> None:
        self._request = request
        self._tools = tools
        self._text = tools.streams.open(request.task_id, request.chat_id, request.message_id)

    async def run(self) -> None:
        """Stream until the end, an error, or a cancellation; say so to the user; save."""
        state, error = DONE, ""
        try:
            await self._emit("chat:active", {"active": True})
            await self._stream()
        except asyncio.CancelledError:
            state = CANCELLED
        except ProviderError as failure:
            state, error = ERROR, str(failure)
        except Exception:  # whatever it is: else the answer would run for ever, for all to see
            log.exception("answer %s failed", self._request.task_id)
            state, error = ERROR, FAILED
        self._tools.ended(self._request.task_id)
        await self._tell_end(state, error)
        if await self._save(state):
            await self._emit("chat:active", {"active": False})

    async def _stream(self) -> None:
        async with contextlib.aclosing(self._tools.provider.stream(self._request.body)) as stream:
            async for text in stream:
                await self._emit_delta(text, self._text.add(text))

    async def _emit_delta(self, text: str, number: int) -> None:
        data = {"type": DELTA, "delta": text, "sequence_number": number}
        await self._emit("response:completion", data)

    async def _tell_end(self, state: str, error: str) -> None:
        if state == CANCELLED:
            await self._emit("chat:tasks:cancel", None)
        elif state == ERROR:
            await self._emit("chat:message:error", {"error": {"content": error}})
        else:
            content = self._text.partial.text
            await self._emit("chat:completion", {"done": True, "content": content})

    async def _emit(self, kind: str, data: Any) -> None:
        inner = {"type": kind} if data is None else {"type": kind, "data": data}
        request = self._request
        await self._tools.emit(
            request.user_id,
            {"chat_id": request.chat_id, "message_id": request.message_id, "data": inner},
        )

    async def _save(self, state: str) -> bool:
        """Keep what there is, also of an answer that was stopped; tell whether its chat is idle.

        Only the database can tell that of several workers. While it is away the text is nowhere
        else, so we try until it is back. No new answer begins meanwhile: what waits is bounded.
        """
        request, pause = self._request, SAVE_PAUSE_S
        row = TaskRow(request.task_id, request.chat_id, request.user_id, state)
        while True:
            try:
                idle = await self._tools.store.end(row, self._text.partial)
            except DatabaseUnavailable as error:
                if pause == SAVE_PAUSE_S:  # said once
                    log.warning("answer %s is kept until it is saved: %s", row.task_id, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, SAVE_PAUSE_MOST_S)
            else:
                self._tools.streams.close(request.task_id)
                return idle
