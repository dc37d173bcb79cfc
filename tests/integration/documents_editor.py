"""An editor of collaborative documents: a Socket.IO client with a Y.js document of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import socketio
from pycrdt import Doc, Text

from harness.waiting import wait_for
from runtime.storage.memberships import Memberships, Permission
from tests.integration.app_deployment import Deployment, User

ANSWER_S = 8


class Editor:
    """Follows a document and edits it; `acknowledged` holds what the server took."""

    def __init__(self, user: User, client: socketio.AsyncClient, document: str) -> None:
        self.user, self.client, self.document = user, client, document
        self.doc: Doc = Doc()
        self.text = self.doc.get("text", type=Text)
        self.acknowledged: list[str] = []
        self.left: list[str] = []
        self.joined: list[str] = []
        self.states: list[dict[str, Any]] = []
        self.resets: list[str] = []
        client.on("ydoc:document:update", self._on_update)
        client.on("ydoc:document:state", self._on_state)
        client.on("ydoc:document:reset", lambda data: self.resets.append(data["content"]))
        client.on("ydoc:user:left", lambda data: self.left.append(data["user_id"]))
        client.on("ydoc:user:joined", lambda data: self.joined.append(data["user_id"]))
        client.on("events", self._on_event)

    def _on_update(self, data: dict[str, Any]) -> None:
        self.doc.apply_update(bytes(data["update"]))

    def _on_state(self, data: dict[str, Any]) -> None:
        self.states.append(data)
        self.doc.apply_update(bytes(data["state"]))

    async def _on_event(self, data: dict[str, Any]) -> None:
        if data["data"]["type"] == "resync":
            await self.sync()

    def __str__(self) -> str:
        return str(self.text)

    async def send(self, event: str, **data: Any) -> Any:
        """Send an event about the document; return its acknowledgement."""
        data = {"document_id": self.document, **data}
        return await self.client.call(f"ydoc:{event}", data, timeout=ANSWER_S)

    async def join(self) -> dict[str, Any]:
        """Open the document."""
        vector = list(self.doc.get_state())
        answer: dict[str, Any] = await self.send("document:join", state_vector=vector)
        return answer

    async def sync(self) -> None:
        """Ask for what was missed."""
        await self.send("document:state", state_vector=list(self.doc.get_state()))

    def edit(self, words: str) -> list[int]:
        """Type words here; return the update."""
        before = self.doc.get_state()
        self.text += words
        return list(self.doc.get_update(before))

    async def write(self, words: str, within: float = 20.0) -> None:
        """Type words and send them until they are acknowledged."""
        update = self.edit(words)
        await wait_for(lambda: self._taken(update), within, f"{words!r} acknowledged")
        self.acknowledged.append(words)

    async def _taken(self, update: list[int]) -> bool:
        answer = await self.send("document:update", update=update)
        if not answer["ok"] and not answer["retry"]:
            raise AssertionError(answer)
        return bool(answer["ok"])

    def has(self, words: list[str]) -> bool:
        """Tell whether all words are in the text here."""
        return set(words) <= set(str(self).split())


async def open_note(app: Deployment, memberships: Memberships, workers: list[int]) -> list[Editor]:
    """Return an editor per worker, each a user of its own, with one new note open."""
    users = [await app.user(worker) for worker in workers]
    note = await memberships.create("note", users[0].id, "note")
    everybody: dict[str, Permission] = {user.id: "write" for user in users[1:]}
    await memberships.grant("note", note.id, everybody)
    editors = [
        Editor(user, await user.connect(worker), f"note:{note.id}")
        for user, worker in zip(users, workers, strict=True)
    ]
    for editor in editors:
        answer = await editor.join()
        assert answer["ok"], answer
    return editors


async def close(editors: list[Editor]) -> None:
    """Close all sockets."""
    await asyncio.gather(*(editor.user.leave() for editor in editors))
