"""What a user's socket makes of the events that reach it, in both of the wire's forms."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from harness.choices import Choices
from harness.clock import RunClock
from harness.history.errors import classify
from harness.load.accounts import Account
from harness.load.entry import Entry
from harness.load.socketio_client import SocketClient
from harness.load.sockets import UserSocket
from harness.load.streams import Stream, Streams
from harness.load.token_runs import TokenRuns
from harness.load_specs import Load


class Ear:
    """A socket without a network: events go in, records come out. `load`: of the scenario."""

    def __init__(self, **load: Any) -> None:
        self.records: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.clock = RunClock()
        self.streams = Streams()
        self.stream = Stream("c1-0", 1, 60, 10)
        self.streams.add(self.stream)
        context = SimpleNamespace(
            writer=self,
            clock=self.clock,
            streams=self.streams,
            fault=self.faults.append,
            home=lambda _: 0,
            pace=lambda: None,
            spawn=lambda work, *arguments: work(*arguments),
            scenario=SimpleNamespace(load=Load.model_validate(load)),
            choices=lambda name: Choices(1, name),
        )
        account = Account("u1", "u1@load.example", "pw", "10.0.0.1")
        self._socket = UserSocket(context, 1, account)  # type: ignore[arg-type]  # the parts used
        self._runs = TokenRuns("u1-0", self)  # type: ignore[arg-type]  # writer's record only

    def record(self, k: str, t: float | None = None, **fields: Any) -> None:
        """Take a record."""
        self.records.append({"k": k, **fields})

    def hear(self, kind: str, data: Any, message: str | None = None, chat: str = "chat") -> None:
        """Receive one `events` event."""
        event = {"chat_id": chat, "message_id": message or self.stream.message_id}
        event |= {"data": {"type": kind, "data": data}}
        self._socket._on_event("u1-0", self._runs, "events", [event])

    def kinds(self) -> list[str]:
        """Return the kinds of all records."""
        return [record["k"] for record in self.records]


def delta(text: str) -> dict[str, str]:
    """Return a token event's data."""
    return {"type": "response.output_text.delta", "delta": text}


def test_deltas_and_the_end_give_one_run_and_one_end() -> None:
    """The run is written with the end, and the stream's user is woken."""
    ear = Ear()
    ear.hear("chat:active", {"active": True})
    ear.hear("response:completion", {"type": "response.created"})
    ear.hear("response:completion", delta("c1-0:0 "))
    ear.hear("response:completion", delta("c1-0:1 "))
    ear.hear("chat:completion", {"done": True, "content": "c1-0:0 c1-0:1 "})
    assert [(r["k"], r.get("first"), r.get("last"), r.get("event")) for r in ear.records] == [
        ("run", 0, 1, None),
        ("end", None, None, "done"),
    ]
    assert ear.stream.ended.is_set()


def test_the_older_form_of_deltas_counts_the_same() -> None:
    """Tokens may come as the provider's own chunks inside `chat:completion`."""
    ear = Ear()
    ear.hear("chat:completion", {"choices": [{"delta": {"role": "assistant"}}]})
    ear.hear("chat:completion", {"choices": [{"delta": {"content": "c1-0:0 "}}]})
    ear.hear("chat:completion", {"done": True})
    assert ear.kinds() == ["run", "end"]


@pytest.mark.parametrize(
    ("kind", "data", "event"),
    [
        ("chat:tasks:cancel", None, "cancel"),
        ("chat:message:error", {"error": {"content": "x"}}, "error"),
        ("chat:completion", {"error": {"content": "x"}, "done": True}, "error"),
    ],
)
def test_ends_other_than_done(kind: str, data: Any, event: str) -> None:
    """A stopped and a failed stream are told apart."""
    ear = Ear()
    ear.hear(kind, data)
    assert [(r["stream"], r["event"]) for r in ear.records] == [("c1-0", event)]


def test_every_end_is_recorded_and_the_first_one_counts() -> None:
    """Being told twice is evidence, not noise."""
    ear = Ear()
    ear.hear("chat:tasks:cancel", None)
    first = ear.stream.ended_at
    ear.hear("chat:completion", {"done": True})
    assert [r["event"] for r in ear.records] == ["cancel", "done"]
    assert ear.stream.ended_at == first


def test_a_resync_hint_is_recorded() -> None:
    """The client is told to fetch anew."""
    ear = Ear()
    ear.hear("resync", {})
    assert ear.records == [{"k": "resync", "socket": "u1-0"}]


def test_ends_of_unknown_streams_are_nobodys() -> None:
    """Events of another client's chats are left alone."""
    ear = Ear()
    ear.hear("chat:tasks:cancel", None, message="other", chat="other")
    assert ear.records == []


def test_a_malformed_event_voids_the_evidence() -> None:
    """What cannot be understood must not pass as silence, nor end the reader."""
    ear = Ear()
    ear.hear("response:completion", "no object")
    assert "AttributeError" in ear.faults[0]
    ear.hear("response:completion", delta("c1-0:0 "))
    ear.hear("chat:tasks:cancel", None)
    assert ear.kinds() == ["run", "end"]


def test_a_refused_connection_is_refused_each_time() -> None:
    """Nobody listens: the error is definite, and closing what never opened is harmless."""
    with socket.create_server(("127.95.8.1", 0)) as server:
        port = server.getsockname()[1]
    client = SocketClient(f"http://127.95.8.1:{port}", "/ws/socket.io", {}, print, print)
    with pytest.raises(ConnectionRefusedError) as caught:
        client.connect({"token": "x"})
    client.close()
    assert classify(caught.value) == ("fail", "connection-refused")


@pytest.mark.parametrize("closed", [False, True])
def test_a_socket_that_ends_with_its_join_is_not_taken_for_open(closed: bool) -> None:
    """Its end was told to nobody, so the user would wait for ever: it connects again instead."""
    outcomes: list[str] = []
    ear = Ear()
    ear.invoke = lambda *_, **__: "op-1"  # type: ignore[attr-defined]  # as a writer
    ear.complete = lambda outcome, *_, **__: outcomes.append(outcome)  # type: ignore[attr-defined]  # as a writer
    user = ear._socket
    user._context.setup = SimpleNamespace(entry=Entry(("http://127.95.8.1:1",)))
    user._context.counters = SimpleNamespace(sockets=0)  # type: ignore[assignment]  # the part used
    client = SimpleNamespace(
        connect=lambda _: "sid",
        call=lambda *_: [],
        close=lambda: None,
        closed=closed,
        answer_headers={},
    )
    user._make_client = lambda *_: client  # type: ignore[method-assign,assignment]  # no network
    assert user._try() is not closed
    assert user.connected.is_set() is not closed
    assert (outcomes == ["ok"]) is not closed


FIXED = {"first_s": 1, "longest_s": 1, "jitter": 0}
LIBRARY = {"at_once": False, "first_s": 1, "longest_s": 5, "jitter": 0.5}


@pytest.mark.parametrize(
    ("reconnect", "pauses"),
    [
        ({}, [(0.1875, 0.3125), (0.375, 0.625), (0.75, 1.25), (1.5, 2.5), (1.5, 2.5)]),
        (FIXED, [(1, 1)] * 5),
        (LIBRARY, [(0.5, 1.5), (1, 3), (2, 6), (2.5, 7.5), (2.5, 7.5)]),
    ],
)
def test_a_lost_socket_comes_back_as_the_scenario_says(
    reconnect: dict[str, Any], pauses: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pauses grow to the longest with their jitter; once connected they begin anew."""
    slept: list[float] = []
    monkeypatch.setattr("harness.load.sockets.gevent.sleep", slept.append)
    user = Ear(reconnect=reconnect)._socket
    user._context.counters = SimpleNamespace(sockets=2)  # type: ignore[assignment]  # the part used
    at_once = reconnect.get("at_once", True)
    tries = iter([False] * (len(pauses) if at_once else len(pauses) - 1))
    user._try = lambda: next(tries, True)  # type: ignore[method-assign]  # no network
    user.connected.set()
    user._on_lost(user.name, TokenRuns(user.name, Ear()), "closed by the server")  # type: ignore[arg-type]  # writer's record only
    assert len(slept) == len(pauses)
    assert all(low <= s <= high for s, (low, high) in zip(slept, pauses, strict=True)), slept
    client = SimpleNamespace(close=lambda: None)
    user._opened(client, user.name)  # type: ignore[arg-type]  # the part used
    assert user._pause_s == user._reconnect.first_s
