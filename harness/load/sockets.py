"""One user's socket: kept connected, its events folded into the history."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.event import Event

from harness.history.errors import classify
from harness.history.records import OK
from harness.load.accounts import Account
from harness.load.context import LoadContext
from harness.load.socketio_client import SocketClient, SocketLost
from harness.load.streams import Stream
from harness.load.token_runs import TokenRuns
from harness.targets.base import SOCKET_PATH

HEARTBEAT_S = 30.0
_ENDS = {"chat:tasks:cancel": "cancel", "chat:message:error": "error"}


class UserSocket:
    """Connects, joins, beats; when it is lost it comes back as the scenario's `reconnect` says.

    Every connection is a socket of its own in the history (`u17-0`, `u17-1`, …): tokens that
    come while none is open are nobody's loss.
    """

    def __init__(
        self, context: LoadContext, user: int, account: Account, number: int | None = None
    ) -> None:
        self._context = context
        self._user = user
        self._account = account
        own = number is None  # else a further tab, which may be on another worker
        self._worker = context.home(user if number is None else number)
        self._choices = context.choices(f"socket-{user if own else account.name}")
        self._client: SocketClient | None = None
        self._number = -1
        self._reconnect = context.scenario.load.reconnect
        self._pause_s = self._reconnect.first_s
        self._closing = False
        self._connecting = gevent.Greenlet()  # not started: false
        self._beating = gevent.Greenlet()
        self._runs: TokenRuns | None = None
        self.connected = Event()

    @property
    def sid(self) -> str:
        """Return the Socket.IO session id; empty while there is no connection."""
        return self._client.sid if self._client and self.connected.is_set() else ""

    @property
    def name(self) -> str:
        """Return the current connection's name in the history."""
        return f"{self._account.name}-{self._number}"

    def start(self) -> None:
        """Connect, in the background, until it works; also once more after `close`."""
        self._closing = False
        if not self._connecting:
            self._connecting = self._context.spawn(self._connect_until_up)
        self._beating = self._context.spawn(self._beat)

    def close(self) -> None:
        """Write open runs and close, until `start` is called again."""
        self._closing = True
        self._beating.kill(block=False)
        if self._runs:
            self._runs.flush()
        if self._client and self.connected.is_set():
            self._context.writer.record("socket", socket=self.name, event="closed", reason="load")
            self._context.counters.sockets -= 1
            self.connected.clear()
            self._client.close()

    def _connect_until_up(self) -> None:
        while not self._closing:
            if self._try():
                return
            self._pause()

    def _come_back(self) -> None:
        if not self._reconnect.at_once:
            self._pause()
        self._connect_until_up()

    def _pause(self) -> None:
        jitter = self._reconnect.jitter
        gevent.sleep(self._pause_s * self._choices.between(1 - jitter, 1 + jitter))
        self._pause_s = min(self._pause_s * 2, self._reconnect.longest_s)

    def _try(self) -> bool:
        self._context.pace()
        self._number += 1
        writer, name = self._context.writer, self.name
        self._runs = TokenRuns(name, writer)
        identity = writer.invoke("connect", socket=name, user=self._user, worker=self._worker)
        client = self._make_client(name, self._runs)
        try:
            sid = client.connect({"token": self._account.token})
            if wrong := self._context.setup.entry.misplaced(self._worker, client.answer_headers):
                self._context.fault(f"socket {name}: {wrong}")
            client.call("user-join", {"auth": {"token": self._account.token}})
            if client.closed:  # the end came with the answer: nobody was told of it
                raise SocketLost("closed as soon as the user had joined")
        except Exception as error:  # any failure is recorded, then tried again
            client.close()
            outcome, code = classify(error)
            writer.complete(outcome, identity, "connect", error=code, text=str(error))
            return False
        writer.complete(OK, identity, "connect", sid=sid)
        self._opened(client, name)
        return True

    def _make_client(self, name: str, runs: TokenRuns) -> SocketClient:
        entry = self._context.setup.entry
        headers = self._account.headers() | entry.pin(self._worker)
        headers.pop("Authorization")  # browsers cannot send it with a WebSocket
        return SocketClient(
            entry.url(self._worker),
            SOCKET_PATH,
            headers,
            lambda event, arguments: self._on_event(name, runs, event, arguments),
            lambda reason: self._on_lost(name, runs, reason),
        )

    def _opened(self, client: SocketClient, name: str) -> None:
        if self._closing:
            client.close()
            return
        self._client = client
        self._pause_s = self._reconnect.first_s
        self._context.writer.record("socket", socket=name, event="opened", reason="")
        self._context.counters.sockets += 1
        self.connected.set()

    def _on_lost(self, name: str, runs: TokenRuns, reason: str) -> None:
        runs.flush()
        if not self.connected.is_set() or name != self.name:
            return  # lost while still connecting: `connect` failed and says so
        self.connected.clear()
        self._context.counters.sockets -= 1
        self._context.writer.record("socket", socket=name, event="lost", reason=reason)
        if not self._closing:
            self._context.spawn(self._come_back)

    def _beat(self) -> None:
        gevent.sleep(self._choices.between(0.5, 1) * HEARTBEAT_S)
        while not self._closing:
            if self._client and self.connected.is_set():
                self._send_heartbeat(self._client)
            gevent.sleep(HEARTBEAT_S)

    def _send_heartbeat(self, client: SocketClient) -> None:
        try:
            client.emit("heartbeat", {})
        except OSError as error:
            self._context.note(f"heartbeat of {self.name} not sent: {error}")

    def _on_event(self, name: str, runs: TokenRuns, event: str, arguments: list[Any]) -> None:
        if event != "events" or not arguments:
            return
        message = arguments[0]
        try:
            self._on_message(name, runs, message)
        except Exception as error:  # a malformed event must not end the reader
            self._context.fault(f"event not understood: {type(error).__name__} in {message!r:.300}")

    def _on_message(self, name: str, runs: TokenRuns, message: dict[str, Any]) -> None:
        data = message["data"]
        kind = data["type"]
        if kind == "response:completion":
            inner = data["data"]
            if inner.get("type") == "response.output_text.delta":
                runs.feed(message["message_id"], inner["delta"], self._context.clock.now())
        elif kind == "chat:completion":
            self._on_completion(name, runs, message, data.get("data") or {})
        elif kind in _ENDS:
            self._on_end(name, runs, message, _ENDS[kind])
        elif kind == "resync":
            self._context.writer.record("resync", socket=name)

    def _on_completion(
        self, name: str, runs: TokenRuns, message: dict[str, Any], data: dict[str, Any]
    ) -> None:
        """Take the older form: deltas as the provider sent them, and the end of every stream."""
        for choice in data.get("choices") or ():
            if text := (choice.get("delta") or {}).get("content"):
                runs.feed(message["message_id"], text, self._context.clock.now())
        if data.get("error"):
            self._on_end(name, runs, message, "error")
        elif data.get("done"):
            self._on_end(name, runs, message, "done")

    def _on_end(self, name: str, runs: TokenRuns, message: dict[str, Any], event: str) -> None:
        stream = self._context.streams.find(message.get("message_id"), message.get("chat_id"))
        if stream is None:
            return
        runs.end(stream.name, stream.message_id)
        now = self._context.clock.now()
        self._context.writer.record("end", t=now, stream=stream.name, socket=name, event=event)
        _mark_ended(stream, now)


def _mark_ended(stream: Stream, now: float) -> None:
    if not stream.ended_at:
        stream.ended_at = now
        stream.ended.set()
