"""A client that follows docs/tasks.md: it can leave an answer and come back on another worker."""

from __future__ import annotations

from typing import Any

import socketio

from harness.waiting import wait_for
from tests.integration.app_deployment import User


class ResumingClient:
    """Follows one answer of a user; `text` is what it would show."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._socket: socketio.AsyncClient | None = None
        self._early: dict[int, str] = {}  # pieces that came before those in front of them
        self.text = ""
        self.sequence = 0
        self.told = ""  # the whole text, as the end of the answer brought it
        self.done = False

    async def connect(self, worker: int) -> None:
        """Open a socket on a worker and keep what it brings."""
        self._socket = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self._socket.on("events", self._on_event)
        await self._socket.connect(
            self._user.deployment.urls[worker],
            auth={"token": self._user.token},
            transports=["websocket"],
            socketio_path="/ws/socket.io",
        )
        await self._socket.call("user-join", {"auth": {"token": self._user.token}}, timeout=3)

    async def leave(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            await self._socket.disconnect()
            await self._socket.shutdown()
            self._socket = None

    async def fetch(self, chat: str, worker: int) -> dict[str, Any]:
        """Return the newest message of the chat."""
        status, body = await self._user.call("GET", f"/api/v1/chats/{chat}", worker)
        assert status == 200, body
        history = body["chat"]["history"]
        message: dict[str, Any] = history["messages"][history["currentId"]]
        return message

    async def resume(self, chat: str, worker: int) -> None:
        """Fetch until a piece from the socket follows what was fetched, or it is the end."""

        async def caught_up() -> bool:
            message = await self.fetch(chat, worker)
            if message["sequence_number"] > self.sequence:
                self.text, self.sequence = message["content"], message["sequence_number"]
            fetched = self.sequence
            self._take_early()
            return bool(message["done"]) or self.sequence > fetched

        await wait_for(caught_up, 3, "caught up")

    def _on_event(self, event: dict[str, Any]) -> None:
        kind, data = event["data"]["type"], event["data"].get("data")
        if kind == "response:completion":
            self._early[data["sequence_number"]] = data["delta"]
            self._take_early()
        elif kind == "chat:completion":
            self.told, self.done = data["content"], True

    def _take_early(self) -> None:
        """Append what follows; drop what is known."""
        self._early = {n: piece for n, piece in self._early.items() if n > self.sequence}
        while (piece := self._early.pop(self.sequence + 1, None)) is not None:
            self.text += piece
            self.sequence += 1
