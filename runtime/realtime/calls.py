"""Ask a browser something and wait for its answer, whichever worker holds its socket.

The question goes to that worker only, as a control message; it asks its own socket and sends the
answer back. When the socket goes, its worker says so at once; when the worker dies, the leader
that buries it does. So nobody polls, and nobody waits longer than the deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import Any, Protocol

from socketio.exceptions import TimeoutError as NoAcknowledgement

from runtime.realtime.session_pool import Record, SessionPool
from runtime.redis.errors import RedisUnavailable
from runtime.supervision import Supervisor

log = logging.getLogger(__name__)

GONE = "Client session disconnected."
TIMED_OUT = "Event call timed out. The browser tab may be inactive or closed."


class CallFailed(Exception):
    """No answer came; the text says why, in words for a user."""


class SessionGone(CallFailed):
    """The session does not exist (any more), or is somebody else's."""


class Caller(Protocol):
    """What of the Socket.IO server and its manager a call needs."""

    async def call(self, event: str, data: Any, **options: Any) -> Any:
        """Emit to a local socket and wait for its acknowledgement."""


class Control(Protocol):
    """How workers talk to each other."""

    async def control(self, message: dict[str, Any], to: str = "") -> None:
        """Tell one instance, or all."""


class EventCalls:
    """Calls to sockets anywhere. `deadline_s` bounds each call that names no time of its own."""

    def __init__(
        self,
        sio: Caller,
        manager: Control,
        pool: SessionPool,
        supervisor: Supervisor,
        deadline_s: float,
    ) -> None:
        self._sio = sio
        self._manager = manager
        self._pool = pool
        self._supervisor = supervisor
        self._deadline = deadline_s
        self._waiting: dict[str, tuple[str, asyncio.Future[Any]]] = {}  # id → instance, answer
        self._here: dict[str, set[asyncio.Future[None]]] = {}  # sid → calls that its end fails

    async def call(
        self, user: str, sid: str, event: str, data: Any, timeout_s: float | None = None
    ) -> Any:
        """Return what a session of a user answers. Raises CallFailed."""
        within = timeout_s or self._deadline
        record = await self._record(sid)
        if record is None or record["id"] != user:
            raise SessionGone(GONE)
        if sid in self._pool:
            return await self._call_here(sid, event, data, within)
        return await self._call_there(str(record["instance"]), sid, event, data, within)

    async def call_user(
        self, user: str, event: str, data: Any, timeout_s: float | None = None
    ) -> Any:
        """Return what a session of the user answers, the next one's when it goes meanwhile."""
        until = time.monotonic() + (timeout_s or self._deadline)
        try:
            sessions = await self._pool.members(f"user:{user}")
        except RedisUnavailable:
            sessions = self._pool.local(f"user:{user}")
        recent = sorted(sessions, key=lambda sid: sessions[sid]["last_seen_at"], reverse=True)
        for sid in recent:
            try:
                return await self.call(user, sid, event, data, until - time.monotonic())
            except SessionGone:
                continue
        raise SessionGone(GONE)

    async def _record(self, sid: str) -> Record | None:
        try:
            return await self._pool.get(sid)
        except RedisUnavailable as error:
            raise CallFailed(f"The session cannot be looked up: {error.reason}") from None

    async def _call_here(self, sid: str, event: str, data: Any, within: float) -> Any:
        """Ask a socket of this worker; fail as soon as it is gone."""
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._here.setdefault(sid, set()).add(gone)
        options = {"to": sid, "timeout": within, "ignore_queue": True}
        asked = asyncio.create_task(self._sio.call(event, data, **options))
        try:
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise SessionGone(GONE)
            return asked.result()
        except (NoAcknowledgement, TimeoutError):
            raise CallFailed(TIMED_OUT) from None
        finally:
            asked.cancel()
            self._drop(sid, gone)

    def _drop(self, sid: str, gone: asyncio.Future[None]) -> None:
        calls = self._here.get(sid, set())
        calls.discard(gone)
        if not calls:
            self._here.pop(sid, None)

    async def _call_there(
        self, instance: str, sid: str, event: str, data: Any, within: float
    ) -> Any:
        """Have another worker ask its socket."""
        number = uuid.uuid4().hex
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (instance, answer)
        question = {"action": "call", "id": number, "from": self._pool.instance, "sid": sid}
        try:
            await self._manager.control(
                {**question, "event": event, "data": data, "within": within}, to=instance
            )
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise CallFailed(TIMED_OUT) from None
        finally:
            self._waiting.pop(number, None)

    # --- what happens elsewhere --------------------------------------------------------------

    def session_gone(self, sid: str) -> None:
        """Fail the calls to a socket of this worker."""
        for gone in self._here.get(sid, ()):
            if not gone.done():
                gone.set_result(None)

    def instance_gone(self, instance: str) -> None:
        """Fail the calls to the sockets of a worker that is dead."""
        for where, answer in list(self._waiting.values()):
            if where == instance and not answer.done():
                answer.set_exception(SessionGone(GONE))

    def on_control(self, message: dict[str, Any]) -> None:
        """Take part in a call of another worker."""
        if message["action"] == "call":
            self._supervisor.spawn(self._answer(message), "event call")
        elif message["action"] == "answer":
            self._on_answer(message)
        elif message["action"] == "instance_gone":
            self.instance_gone(str(message["instance"]))

    async def _answer(self, question: dict[str, Any]) -> None:
        sid, answer = str(question["sid"]), {"action": "answer", "id": question["id"]}
        try:
            if sid not in self._pool:
                raise SessionGone(GONE)
            within = float(question["within"])
            answer["data"] = await self._call_here(sid, question["event"], question["data"], within)
        except CallFailed as error:
            answer["error"] = str(error)
            answer["gone"] = isinstance(error, SessionGone)
        await self._manager.control(answer, to=str(question["from"]))

    def _on_answer(self, message: dict[str, Any]) -> None:
        _, answer = self._waiting.get(str(message["id"]), ("", None))
        if answer is None or answer.done():  # it came too late
            return
        if "error" not in message:
            answer.set_result(message.get("data"))
            return
        kind = SessionGone if message.get("gone") else CallFailed
        answer.set_exception(kind(str(message["error"])))
