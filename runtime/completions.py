"""One chat answer: read from the provider, told to the user's sockets, kept in the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from runtime.database import Database, DatabaseUnavailable
from runtime.provider import Provider, ProviderError

log = logging.getLogger(__name__)

SAVE_TRIES = 5
SAVE_PAUSE_S = 0.3

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


class Completion:
    """Runs one request; `run` is the body of its task."""

    def __init__(
        self,
        request: Request,
        provider: Provider,
        emit: EmitToUser,
        database: Database,
        ended: Callable[[str], None],
    ) -> None:
        self._request = request
        self._provider = provider
        self._emit_to_user = emit
        self._database = database
        self._ended = ended
        self._texts: list[str] = []

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
        self._ended(self._request.task_id)
        await self._tell_end(state, error)
        await self._save(state)

    async def _stream(self) -> None:
        async with contextlib.aclosing(self._provider.stream(self._request.body)) as stream:
            async for text in stream:
                self._texts.append(text)
                await self._emit_delta(text)

    async def _emit_delta(self, text: str) -> None:
        await self._emit(
            "response:completion", {"type": "response.output_text.delta", "delta": text}
        )

    async def _tell_end(self, state: str, error: str) -> None:
        if state == CANCELLED:
            await self._emit("chat:tasks:cancel", None)
        elif state == ERROR:
            await self._emit("chat:message:error", {"error": {"content": error}})
        else:
            await self._emit("chat:completion", {"done": True, "content": "".join(self._texts)})
        await self._emit("chat:active", {"active": False})

    async def _emit(self, kind: str, data: Any) -> None:
        inner = {"type": kind} if data is None else {"type": kind, "data": data}
        request = self._request
        await self._emit_to_user(
            request.user_id,
            {"chat_id": request.chat_id, "message_id": request.message_id, "data": inner},
        )

    async def _save(self, state: str) -> None:
        """Keep what there is, also of an answer that was stopped."""
        for attempt in range(SAVE_TRIES):
            try:
                text = "".join(self._texts)
                await self._database.end_message(self._request.task_id, text, state)
                return
            except DatabaseUnavailable as error:
                log.warning("answer %s not saved yet: %s", self._request.task_id, error)
                await asyncio.sleep(SAVE_PAUSE_S * (attempt + 1))
        log.error("answer %s is lost: the database did not take it", self._request.task_id)
