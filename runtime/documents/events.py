"""Collaborative documents: the `ydoc:` events of Socket.IO.

Every request is answered in its acknowledgement: `{"ok": true, …}`, or `{"ok": false, "error",
"message", "retry"}`. Whoever is told `retry` may send the same update again, as often as it likes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import socketio

from runtime.documents import crdt
from runtime.documents.access import DocumentAccess, normal_id
from runtime.documents.journal import Busy, Journal, State, member
from runtime.documents.store import NOT_EMPTY, STORED, TOO_LARGE, Replaced
from runtime.documents.upkeep import Upkeep
from runtime.realtime.identities import SocketIdentity
from runtime.redis.errors import RedisUnavailable
from runtime.storage.database import DatabaseUnavailable
from runtime.storage.documents import DocumentRow
from runtime.storage.memberships import Permission
from runtime.supervision import Supervisor

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 5.0
STOP_WITHIN_S = 3.0
IN_LOOP_BYTES = 16 * 1024  # larger updates are checked in a thread
AWARENESS_BYTES = 64 * 1024
COLOR = re.compile(r"#[0-9a-fA-F]{3,8}")

MESSAGES = {
    "not_signed_in": "Send user-join with a valid token first.",
    "forbidden": "There is no such document for you, or you may not change it.",
    "not_joined": "Send ydoc:document:join for this document first.",
    "too_many_documents": "This socket has as many documents open as it may; leave one.",
    "malformed": "This is no Y.js update (version 1) as a list of bytes",
    "update_too_large": "The update is larger than a document may be.",
    "document_too_large": "The document is as large as it may be.",
    "replaced": "The document was replaced; join it again and drop your copy.",
    "busy": "Too many edits wait to be stored.",
    "unavailable": "Nobody knows whether this was stored; send it again.",
}
AGAIN = ("busy", "unavailable")


class Refused(Exception):
    """A request that is not carried out; the code is one of MESSAGES."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code, self.detail = code, detail

    def answer(self) -> dict[str, Any]:
        """Return the acknowledgement."""
        text = MESSAGES[self.code] + (f": {self.detail}" if self.detail else "")
        return {
            "ok": False,
            "error": self.code,
            "message": text,
            "retry": self.code in AGAIN,
        }


class Sockets(Protocol):
    """The Socket.IO server (`runtime.realtime.server.SocketServer`)."""

    async def enter(self, sid: str, room: str) -> None:
        """Let a socket into a room."""

    async def leave(self, sid: str, room: str) -> None:
        """Take a socket out of a room."""

    def in_room(self, sid: str, room: str) -> bool:
        """Tell whether a socket of this worker is in a room."""

    async def emit(self, event: str, payload: Any, room: str, skip_sid: str | None = None) -> None:
        """Send to a room on all workers."""

    async def emit_here(self, event: str, payload: Any, sid: str) -> None:
        """Send to one socket of this worker."""


Who = Callable[[str], Awaitable[SocketIdentity | None]]
Handler = Callable[[str, SocketIdentity, str, dict[str, Any]], Awaitable[Any]]


class Documents:
    """The events of all documents on this worker. `who(sid)` verifies whose socket it is."""

    def __init__(
        self, sockets: Sockets, who: Who, journal: Journal, *, most: int, most_bytes: int
    ) -> None:
        self._sockets = sockets
        self._who = who
        self._journal = journal
        self._most, self._most_bytes = most, most_bytes
        self._opened: dict[str, dict[str, str]] = {}  # socket → document → color
        self.access = DocumentAccess()
        self.upkeep = Upkeep(journal, self._tell_left, self._tell_joined)
        self.upkeep.present = lambda document, sid: sockets.in_room(sid, _room(document))

    def register(self, sio: socketio.AsyncServer) -> None:
        """Listen to the events."""
        sio.on("ydoc:document:join", self._guarded(self._join))
        sio.on("ydoc:document:state", self._guarded(self._state))
        sio.on("ydoc:document:update", self._guarded(self._update))
        sio.on("ydoc:document:leave", self._guarded(self._leave))
        sio.on("ydoc:awareness:update", self._guarded(self._awareness))

    def start(self, supervisor: Supervisor) -> None:
        """Begin to save, to repair and to renew leases."""
        self.upkeep.start(supervisor)

    async def stop(self) -> None:
        """Save what is not saved yet, within 3 s; another worker would do it later."""
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.upkeep.save_all()
        except TimeoutError:
            log.warning("not all documents were saved; another worker will save them")

    async def saved(self, document: str) -> DocumentRow | None:
        """Return what the database has of a document."""
        return await self._journal.rows.get(document)

    async def replace(self, document: str, text: str) -> int:
        """Replace a document from outside; return its version. Open copies are void."""
        row = await self._journal.rows.replace(document, text)
        await self._sockets.emit(
            "ydoc:document:reset", {"document_id": document, "content": text}, _room(document)
        )
        return row.version

    async def left(self, sid: str) -> None:
        """End the presence of a socket that is gone."""
        documents = list(self._opened.pop(sid, ()))
        members = [m for m in (self._forget(document, sid) for document in documents) if m]
        for document, one in members:
            await self._tell_left(document, one)
        try:
            await self._journal.store.leave(members)
        except RedisUnavailable as error:  # the leases end by themselves
            log.info("leases not ended: %s", error.reason)

    def _guarded(self, handler: Handler) -> Callable[..., Awaitable[Any]]:
        """Return the handler for signed-in sockets, bounded in time; it always answers."""

        async def handle(sid: str, data: Any = None) -> Any:
            data = data if isinstance(data, dict) else {}
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    who = await self._who(sid)
                    if who is None:
                        raise Refused("not_signed_in")
                    return await handler(sid, who, normal_id(data.get("document_id")), data)
            except Exception as error:
                return _refusal(error).answer()

        return handle

    # --- events ----------------------------------------------------------------------------

    async def _join(
        self, sid: str, who: SocketIdentity, document: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        permission = await self._require(document, who, "read", fresh=True)
        opened = self._opened.setdefault(sid, {})
        if document not in opened and len(opened) >= self._most:
            raise Refused("too_many_documents", f"{self._most} at most")
        opened[document] = _color(data.get("user_color"))
        await self._sockets.enter(sid, _room(document))  # first: no update may fall between
        try:
            state = await self._journal.join(document, sid, who.user.id)
        except BaseException:
            opened.pop(document)
            await self._sockets.leave(sid, _room(document))
            raise
        await self._send_state(sid, document, state, data)
        await self._tell_joined(document, member(sid, who.user.id), who.user.name)
        return {"ok": True, "permission": permission}

    async def _state(
        self, sid: str, _: SocketIdentity, document: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        self._require_joined(sid, document)
        await self._send_state(sid, document, await self._journal.state(document), data)
        return {"ok": True}

    async def _update(
        self, sid: str, who: SocketIdentity, document: str, data: dict[str, Any]
    ) -> Any:
        self._require_joined(sid, document)
        await self._require(document, who, "write")
        update = await self._checked(data.get("update"))
        first = bool(data.get("initialize"))
        if first and (there := (await self._journal.state(document)).update) != crdt.EMPTY:
            return list(there)  # somebody else was first
        answer = await self._store(document, update, first)
        if answer == NOT_EMPTY:
            return list((await self._journal.state(document)).update)
        told = {"document_id": document, "user_id": who.user.id, "update": list(update)}
        await self._sockets.emit(
            "ydoc:document:update", {**told, "socket_id": sid}, _room(document), sid
        )
        return list(update) if first else {"ok": True}

    async def _store(self, document: str, update: bytes, first: bool) -> int:
        """Store an update, after compacting if that makes room; raise Refused."""
        answer = await self._journal.append(document, update, only_if_empty=first)
        if answer == TOO_LARGE and await self._journal.compact(document):
            answer = await self._journal.append(document, update, only_if_empty=first)
        if answer not in (STORED, NOT_EMPTY):
            raise Refused("document_too_large", f"{self._most_bytes} bytes")
        return answer

    async def _leave(
        self, sid: str, _: SocketIdentity, document: str, __: dict[str, Any]
    ) -> dict[str, Any]:
        self._require_joined(sid, document)
        self._opened.get(sid, {}).pop(document, None)
        await self._sockets.leave(sid, _room(document))
        if found := self._forget(document, sid):
            await self._tell_left(*found)
            await self._journal.store.leave([found])
        return {"ok": True}

    async def _awareness(
        self, sid: str, who: SocketIdentity, document: str, data: dict[str, Any]
    ) -> dict[str, Any]:
        self._require_joined(sid, document)
        update = data.get("update")
        if not isinstance(update, (list, bytes)) or len(update) > AWARENESS_BYTES:
            raise Refused("malformed", f"at most {AWARENESS_BYTES} bytes of awareness")
        payload = {"document_id": document, "user_id": who.user.id, "update": list(update)}
        await self._sockets.emit("ydoc:awareness:update", payload, _room(document), sid)
        return {"ok": True}

    # --- what they need --------------------------------------------------------------------

    async def _require(
        self, document: str, who: SocketIdentity, wanted: Permission, *, fresh: bool = False
    ) -> Permission:
        user = who.user
        found = await self.access.permission(document, user.id, user.role, fresh=fresh)
        if not document or found is None or (wanted == "write" and found != "write"):
            raise Refused("forbidden")
        return found

    def _require_joined(self, sid: str, document: str) -> None:
        if not document or not self._sockets.in_room(sid, _room(document)):
            raise Refused("not_joined")

    async def _checked(self, update: Any) -> bytes:
        """Return an update's bytes; raise Refused unless a document can take it."""
        found = _bytes(update)
        if len(found) > self._most_bytes:
            raise Refused("update_too_large", f"{len(found)} of {self._most_bytes} bytes")
        if len(found) > IN_LOOP_BYTES:
            await asyncio.to_thread(crdt.check, found)
        else:
            crdt.check(found)
        return found

    async def _send_state(
        self, sid: str, document: str, state: State, data: dict[str, Any]
    ) -> None:
        """Send the document, or what a client with a state vector lacks, and our own vector."""
        update, vector = state.update, data.get("state_vector")
        if vector is not None:
            update = await asyncio.to_thread(crdt.missing, update, _bytes(vector))
        users = await self._journal.store.users(document)
        payload = {
            "document_id": document,
            "state": list(update),
            "state_vector": list(await asyncio.to_thread(crdt.vector_of, state.update)),
            "content": state.text,
            "sessions": [user.partition("|")[0] for user in users],
        }
        await self._sockets.emit_here("ydoc:document:state", payload, sid)

    def _forget(self, document: str, sid: str) -> tuple[str, str] | None:
        """Take a socket out of a document; return (document, member)."""
        entry = self._journal.documents.get(document)
        user = entry.users.get(sid) if entry else None
        if user is None or not self._journal.forget_user(document, sid):
            return None
        return document, member(sid, user)

    async def _tell_left(self, document: str, one: str) -> None:
        payload = {"document_id": document, "user_id": one.partition("|")[2]}
        await self._sockets.emit("ydoc:user:left", payload, _room(document))

    async def _tell_joined(self, document: str, one: str, name: str = "") -> None:
        sid, _, user = one.partition("|")
        payload = {
            "document_id": document,
            "user_id": user,
            "user_name": name or await self._name(sid),
            "user_color": self._opened.get(sid, {}).get(document, "#000000"),
        }
        await self._sockets.emit("ydoc:user:joined", payload, _room(document), sid)

    async def _name(self, sid: str) -> str:
        who = await self._who(sid)
        return who.user.name if who else "Anonymous"


def _room(document: str) -> str:
    return f"doc_{document}"


def _color(color: Any) -> str:
    return color if isinstance(color, str) and COLOR.fullmatch(color) else "#000000"


def _bytes(value: Any) -> bytes:
    """Return a list of bytes, or bytes, as bytes; raise Refused."""
    if isinstance(value, (list, bytes)):
        try:
            return bytes(value)
        except (TypeError, ValueError):
            pass
    raise Refused("malformed", "each must be 0 to 255")


def _refusal(error: Exception) -> Refused:
    """Return what to tell the client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, crdt.MalformedUpdate):
        return Refused("malformed", str(error))
    if isinstance(error, Replaced):
        return Refused("replaced")
    if isinstance(error, Busy):
        return Refused("busy")
    if not isinstance(error, (RedisUnavailable, DatabaseUnavailable, TimeoutError)):
        log.error("document event failed", exc_info=error)
    return Refused("unavailable", str(error))
