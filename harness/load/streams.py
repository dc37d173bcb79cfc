"""The chat streams of one load process, and what is known of each."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from gevent.event import Event


@dataclass
class Stream:
    """One chat task: asked for by a user, sent by the provider, ended or stopped."""

    name: str  # c17-3 (a user's chat) or s42 (stream of stop step 42): unique in the run
    user: int
    tokens: int
    rate: float  # tokens a second
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    chat_id: str = ""
    tasks: list[str] = field(default_factory=list)
    started_at: float = 0.0  # run seconds of the acknowledgement; 0: never acknowledged
    ended_at: float = 0.0  # run seconds at which the socket was told its end
    stop_acknowledged: bool = False
    ended: Event = field(default_factory=Event)

    @property
    def marker(self) -> str:
        """Return what tells the provider the stream's name, length and rate."""
        return f"[[stream={self.name} tokens={self.tokens} rate={self.rate:g}]]"

    @property
    def due_end(self) -> float:
        """Return the run seconds at which it ends by itself."""
        return self.started_at + self.tokens / self.rate

    @property
    def running(self) -> bool:
        """Tell whether, as far as the user knows, it is still being generated."""
        return bool(self.started_at) and not self.ended_at and not self.stop_acknowledged


class Streams:
    """All streams of the process, found by message and by chat."""

    def __init__(self) -> None:
        self.all: list[Stream] = []
        self._by_message: dict[str, Stream] = {}
        self._by_chat: dict[str, Stream] = {}

    def add(self, stream: Stream) -> None:
        """Make it known before it is asked for: tokens may arrive before the answer."""
        self.all.append(stream)
        self._by_message[stream.message_id] = stream

    def acknowledge(self, stream: Stream, chat_id: str, tasks: list[str], now: float) -> None:
        """Note the target's answer."""
        stream.chat_id, stream.tasks, stream.started_at = chat_id, tasks, now
        self._by_chat[chat_id] = stream

    def find(self, message_id: str | None, chat_id: str | None) -> Stream | None:
        """Return the stream of an event: by its message, else by its chat (one stream each)."""
        stream = self._by_message.get(message_id or "")
        return stream or self._by_chat.get(chat_id or "")
