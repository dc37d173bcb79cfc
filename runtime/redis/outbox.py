"""What a publisher still has to send, and what it may have to send again. Pure, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

RETAIN_S = 60.0  # a failover may bring back a server that lost the last seconds
REPLAY_S = 10.0  # how far back to go when the server lost everything
BATCH = 1000
BATCH_BYTES = 256 * 1024


@dataclass(slots=True)
class Message:
    """One published message. `acknowledged` is when the server had it (monotonic s), else 0."""

    seq: int
    room: str
    payload: bytes
    acknowledged: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Consecutive messages. `first` may leave a hole only where `gap` says so."""

    first: int
    messages: Sequence[Message]
    gap: bool


class Outbox:
    """Messages numbered 1, 2, 3, … of one publisher, bounded in count and bytes.

    The oldest are dropped at the bound: sent ones silently (they are kept only to be sent
    again), unsent ones as a gap that readers are told of.
    """

    def __init__(self, most: int = 50_000, most_bytes: int = 64 * 1024 * 1024) -> None:
        self._ring: deque[Message] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._last_seq = 0
        self._next = 1  # the next to send
        self._sure = 0  # the server has everything up to here
        self._gap = False
        self.dropped = 0
        self.resent = 0  # what had to be sent again, because the server lost it

    @property
    def unsent(self) -> int:
        """How many the server does not have yet, as far as known."""
        return self._last_seq - self._next + 1

    @property
    def last(self) -> int:
        """The number of the newest message."""
        return self._last_seq

    @property
    def sure(self) -> int:
        """The number up to which the server has acknowledged."""
        return self._sure

    @property
    def _oldest(self) -> int:
        return self._ring[0].seq if self._ring else self._last_seq + 1

    def put(self, room: str, payload: bytes) -> int:
        """Take a message and return its number; never waits."""
        self._last_seq += 1
        self._ring.append(Message(self._last_seq, room, payload))
        self._bytes += len(payload)
        while len(self._ring) > self._most or self._bytes > self._most_bytes:
            self._drop_oldest()
        return self._last_seq

    def _drop_oldest(self) -> None:
        message = self._ring.popleft()
        self._bytes -= len(message.payload)
        if message.seq >= self._next:  # nobody will ever see it
            self.dropped += 1
            self._next = message.seq + 1
            self._gap = True

    def batch(self) -> Batch | None:
        """Return the next messages to send, None when everything was sent."""
        if self._next > self._last_seq:
            return None
        start = self._next - self._oldest
        chosen: list[Message] = []
        size = 0
        for place in range(start, min(len(self._ring), start + BATCH)):
            message = self._ring[place]
            size += len(message.payload)
            if chosen and size > BATCH_BYTES:
                break
            chosen.append(message)
        return Batch(self._next, chosen, self._gap)

    def acknowledge(self, last: int, now: float) -> None:
        """Note that the server has everything up to `last`."""
        for seq in range(max(self._sure + 1, self._oldest), min(last, self._last_seq) + 1):
            self._ring[seq - self._oldest].acknowledged = now
        self._sure = max(self._sure, min(last, self._last_seq))
        if last + 1 > self._next:
            self._next = last + 1
            self._gap = False

    def rewind(self, last: int | None, now: float) -> None:
        """Go on after `last`, which is what the server turned out to have.

        None: it has nothing of us; then go back REPLAY_S before its last acknowledgement, which
        covers readers that had not yet read what was lost.
        """
        if last is None:
            wanted = self._replay_from(now)
            self._gap = False  # the server knows no number to miss
        else:
            wanted = last + 1
            self._gap = wanted < self._oldest <= self._last_seq
        wanted = max(wanted, self._oldest)
        self.resent += max(0, self._next - wanted)
        self._next = wanted
        self._sure = self._next - 1

    def _replay_from(self, now: float) -> int:
        acknowledged = [m.acknowledged for m in self._ring if m.acknowledged]
        horizon = (max(acknowledged) if acknowledged else now) - REPLAY_S
        for message in self._ring:
            if not message.acknowledged or message.acknowledged >= horizon:
                return message.seq
        return self._last_seq + 1

    def forget(self, now: float) -> None:
        """Drop what was acknowledged longer than RETAIN_S ago."""
        while self._ring:
            oldest = self._ring[0]
            if oldest.seq > self._sure or not oldest.acknowledged:
                return
            if now - oldest.acknowledged < RETAIN_S:
                return
            self._ring.popleft()
            self._bytes -= len(oldest.payload)
