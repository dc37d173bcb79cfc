"""The door of the socket server: strangers are few, and do not stay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.realtime import admission as module
from runtime.realtime.admission import Admission

NEW = {"type": "websocket", "query_string": b"EIO=4&transport=websocket"}


class Door:
    """An Admission before an engine that accepts everybody and serves until told to stop."""

    def __init__(self, limit: int) -> None:
        self.engine: list[str] = []
        self.known: set[str] = set()
        self.closed: list[str] = []
        self.late = False
        self.over = asyncio.Event()
        self.admission = Admission(
            self._serve,
            limit,
            late=lambda: self.late,
            engine_sockets=lambda: self.engine,
            known=lambda: len(self.known),
            is_known=lambda sid: sid in self.known,
            close=self._close,
        )

    async def _serve(self, scope: Any, _receive: Any, send: Any) -> None:
        self.engine.append(f"e{len(self.engine)}")
        await send({"type": "websocket.accept"})
        await self.over.wait()

    async def _close(self, sid: str) -> None:
        self.closed.append(sid)
        self.engine.remove(sid)

    async def knock(self, scope: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return what a client hears first."""
        heard: list[dict[str, Any]] = []
        answered = asyncio.Event()

        async def send(message: Any) -> None:
            heard.append(message)
            answered.set()

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        task = asyncio.create_task(self.admission(dict(scope or NEW), receive, send))
        await answered.wait()
        await asyncio.sleep(0)
        task.add_done_callback(lambda _: None)
        return heard


async def test_one_stranger_too_many_is_refused() -> None:
    """The bound counts those who did not sign in; those who did make room."""
    door = Door(2)
    for _ in range(2):
        assert (await door.knock())[0]["type"] == "websocket.accept"
    assert (await door.knock())[0] == {"type": "websocket.close", "code": 1013}
    assert door.admission.refused == 1
    door.known.add("e0")
    assert (await door.knock())[0]["type"] == "websocket.accept"
    door.over.set()


async def test_nobody_joins_a_line_that_is_late() -> None:
    """Who is let in would wait too long; the client does better to come back later."""
    door = Door(5)
    door.late = True
    assert (await door.knock())[0] == {"type": "websocket.close", "code": 1013}
    door.late = False
    assert (await door.knock())[0]["type"] == "websocket.accept"
    assert door.admission.refused == 1
    door.over.set()


async def test_a_refusal_says_when_to_come_back() -> None:
    """Polling is answered with 503 and Retry-After; a WebSocket is refused without being opened."""
    door = Door(1)
    door.admission.open = False
    assert (await door.knock())[0]["type"] == "websocket.close"
    start, body = await door.knock({"type": "http", "query_string": b"EIO=4&transport=polling"})
    assert (start["type"], start["status"]) == ("http.response.start", 503)
    first, last = module.RETRY_AFTER_S
    assert first <= int(dict(start["headers"])[b"retry-after"]) <= last
    assert body["type"] == "http.response.body"
    assert door.engine == []


async def test_sockets_that_exist_are_never_refused() -> None:
    """A full or closed door does not cut off those inside."""
    door = Door(1)
    door.admission.open = False
    inside = {**NEW, "query_string": b"EIO=4&transport=polling&sid=abc"}
    assert (await door.knock(inside))[0]["type"] == "websocket.accept"
    door.over.set()


async def test_strangers_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that never spoke Socket.IO; who signed in meanwhile stays."""
    door = Door(5)
    door.engine = ["silent", "late", "known"]
    door.known = {"known"}
    await door.admission.sweep()
    assert door.closed == []
    door.known.add("late")
    monkeypatch.setattr(module, "ANONYMOUS_S", 0.0)
    await door.admission.sweep()
    assert door.closed == ["silent"]
    assert door.engine == ["late", "known"]
