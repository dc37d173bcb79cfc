"""Outbox and inbox against a model: whatever is lost, repeated or late, once and in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.redis.inbox import HOLD_S, MOST_ORIGINS, Gap, Inbox
from runtime.redis.outbox import RETAIN_S, Batch, Outbox

ORIGIN = b"a"
NOW = 1.0  # monotonic seconds; nothing here takes time


class Stream:
    """What the append script does, in Python; it may lose its end or everything."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes, bool]] = []
        self.last = -1

    def append(self, batch: Batch, fresh: bool) -> int:
        """Append what follows; refuse a hole; return the last number."""
        if self.last < 0 and not fresh:
            return -1
        gap = 0 <= self.last < batch.first - 1
        if gap and not batch.gap:
            return self.last
        for message in batch.messages:
            if message.seq > self.last:
                self.entries.append((message.seq, message.payload, gap))
                gap, self.last = False, message.seq
        return self.last

    def lose(self, count: int) -> None:
        """Fail over to a replica that lagged by `count` entries."""
        self.entries = self.entries[: max(0, len(self.entries) - count)]
        self.last = self.entries[-1][0] if self.entries else -1


class Publisher:
    """The writer's decisions around an outbox, as eventlog.Writer takes them."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.fresh = True

    def reconcile(self, last: int) -> None:
        """Rewind to what the server has."""
        self.fresh = last < 0
        if last < 0:
            self.outbox.rewind(None, NOW)
        elif last < self.outbox.sure:
            self.outbox.rewind(last, NOW)
        else:
            self.outbox.acknowledge(last, NOW)

    def send(self, stream: Stream, answered: bool) -> None:
        """Send one batch; the answer may be lost."""
        batch = self.outbox.batch()
        if batch is None:
            return
        last = stream.append(batch, self.fresh)
        if not answered:
            return
        if last < batch.first + len(batch.messages) - 1:
            self.reconcile(last)
        else:
            self.fresh = False
            self.outbox.acknowledge(last, NOW)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("send"), st.integers(0, 1)),
        st.tuples(st.just("lose"), st.sampled_from([0, 1, 2, 4, 10**6])),
        st.tuples(st.just("reconnect"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 3)),
    ),
    max_size=50,
)


class World:
    """One publisher, one server, one reader that has heard message 1."""

    def __init__(self) -> None:
        self.outbox, self.stream, self.inbox = Outbox(), Stream(), Inbox[bytes]()
        self.publisher = Publisher(self.outbox)
        self.heard: list[bytes | Gap] = []
        self.put(1)
        self.heard += self.inbox.accept(ORIGIN, 1, b"1", NOW)

    def put(self, count: int) -> None:
        """Publish."""
        for _ in range(count):
            self.outbox.put("", str(self.outbox.last + 1).encode())

    def send(self, answered: int) -> None:
        """Send a batch; 0: its answer is lost."""
        self.publisher.send(self.stream, bool(answered))

    def lose(self, count: int) -> None:
        """Fail over to a server that has less."""
        self.stream.lose(count)

    def reconnect(self, _: int) -> None:
        """Compare with what the server has."""
        self.publisher.reconcile(self.stream.last)

    def read(self, back: int) -> None:
        """Read the last entries, 0: all."""
        for seq, payload, gap in self.stream.entries[-back:]:
            self.heard += self.inbox.accept(ORIGIN, seq, payload, NOW, gap)

    def settle(self) -> None:
        """Let the publisher finish and the reader look at everything."""
        self.reconnect(0)
        while self.outbox.unsent:
            self.send(1)
        self.read(0)


@given(steps)
@settings(max_examples=200)
def test_every_message_is_delivered_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Lost answers, lagging replicas and empty servers change nothing for a live reader."""
    world = World()
    for name, number in steps:
        getattr(world, name)(number)
    world.settle()
    assert world.heard == [str(n).encode() for n in range(1, world.outbox.last + 1)]


@given(st.permutations(range(2, 12)), st.lists(st.integers(1, 11), max_size=20))
def test_any_order_and_repeats_come_out_in_order(order: list[int], repeats: list[int]) -> None:
    """A reader's delivery does not depend on the order or number of arrivals."""
    inbox = Inbox[int]()
    heard = list(inbox.accept(ORIGIN, 1, 1, 0.0))
    for seq in [*order, *repeats]:
        heard += list(inbox.accept(ORIGIN, seq, seq, 0.0))
    assert heard == list(range(1, 12))


def test_a_hole_is_given_up_after_a_while() -> None:
    """Later messages wait for a hole for HOLD_S; then the reader is told what is missing."""
    inbox = Inbox[int]()
    assert list(inbox.accept(ORIGIN, 1, 1, 0.0)) == [1]
    assert list(inbox.accept(ORIGIN, 4, 4, 0.0)) == []
    assert inbox.new_hole(0.0)
    assert not inbox.new_hole(0.1)
    assert list(inbox.expire(HOLD_S / 2)) == []
    assert list(inbox.expire(HOLD_S + 0.1)) == [Gap(ORIGIN, 2, 3), 4]
    assert list(inbox.accept(ORIGIN, 3, 3, 0.0)) == []


def test_a_second_hole_has_a_time_of_its_own() -> None:
    """It is not given up when the first one's time is over, filled or not; it gets a look back."""
    inbox = Inbox[int]()
    assert list(inbox.accept(ORIGIN, 1, 1, 0.0)) == [1]
    assert list(inbox.accept(ORIGIN, 3, 3, 0.0)) == []
    assert inbox.new_hole(0.0)
    second = HOLD_S - 0.1
    assert list(inbox.accept(ORIGIN, 6, 6, second)) == []
    assert not inbox.new_hole(second)  # it is behind the first
    assert list(inbox.accept(ORIGIN, 2, 2, second)) == [2, 3]
    assert inbox.new_hole(second + 0.05)
    assert list(inbox.expire(HOLD_S + 0.1)) == []
    assert list(inbox.accept(ORIGIN, 8, 8, HOLD_S + 0.1)) == []
    assert list(inbox.expire(second + HOLD_S + 0.1)) == [Gap(ORIGIN, 4, 5), 6]
    assert inbox.new_hole(second + HOLD_S + 0.1)
    assert list(inbox.accept(ORIGIN, 7, 7, second + HOLD_S + 0.1)) == [7, 8]
    assert not inbox.new_hole(second + HOLD_S + 0.2)


def test_holes_of_one_look_back_share_it() -> None:
    """What was held when the log was looked through again does not ask for another look."""
    inbox = Inbox[int]()
    for seq in (1, 3, 5, 7):
        list(inbox.accept(ORIGIN, seq, seq, 0.0))
    assert inbox.new_hole(0.1)
    assert list(inbox.accept(ORIGIN, 2, 2, 0.2)) == [2, 3]
    assert not inbox.new_hole(0.3)
    assert list(inbox.expire(HOLD_S + 0.1)) == [Gap(ORIGIN, 4, 4), 5, Gap(ORIGIN, 6, 6), 7]


def test_publishers_that_speak_are_remembered() -> None:
    """Workers that come and go by the thousand do not make a reader forget one that stays."""
    inbox = Inbox[int]()
    list(inbox.accept(ORIGIN, 1, 1, 0.0))
    for number in range(MOST_ORIGINS + 10):
        list(inbox.accept(f"passing {number}".encode(), 1, 1, 0.0))
        list(inbox.accept(ORIGIN, number + 2, 1, 0.0))
    assert list(inbox.accept(ORIGIN, 5, 5, 0.0)) == []


def test_a_declared_gap_is_given_up_at_once() -> None:
    """Where the publisher says that it cannot fill a hole, nobody waits."""
    inbox = Inbox[int]()
    assert list(inbox.accept(ORIGIN, 1, 1, 0.0)) == [1]
    assert list(inbox.accept(ORIGIN, 9, 9, 0.0, declared_gap=True)) == [Gap(ORIGIN, 2, 8), 9]


def test_a_declared_gap_gives_up_no_other_hole() -> None:
    """A hole before it may still be filled; once it is, nobody waits for the declared one."""
    inbox = Inbox[int]()
    assert list(inbox.accept(ORIGIN, 1, 1, 0.0)) == [1]
    assert list(inbox.accept(ORIGIN, 4, 4, 0.0)) == []
    assert list(inbox.accept(ORIGIN, 8, 8, 0.0, declared_gap=True)) == []
    assert list(inbox.accept(ORIGIN, 9, 9, 0.0)) == []
    assert list(inbox.accept(ORIGIN, 3, 3, 0.0)) == []
    assert list(inbox.accept(ORIGIN, 2, 2, 0.0)) == [2, 3, 4, Gap(ORIGIN, 5, 7), 8, 9]
    assert not inbox.new_hole(0.1)


def test_a_late_reader_starts_where_it_joins() -> None:
    """The first number seen of a publisher is no hole."""
    inbox = Inbox[int]()
    assert list(inbox.accept(ORIGIN, 70, 70, 0.0)) == [70]


def test_a_full_outbox_declares_the_gap() -> None:
    """Beyond the bound the oldest unsent are dropped, counted, and readers will be told."""
    outbox = Outbox(most=10)
    for _ in range(15):
        outbox.put("", b"x")
    batch = outbox.batch()
    assert batch
    assert (batch.first, len(batch.messages), batch.gap) == (6, 10, True)
    assert outbox.dropped == 5
    outbox.acknowledge(15, 0.0)
    assert outbox.batch() is None
    assert outbox.put("", b"x") == 16
    following = outbox.batch()
    assert following
    assert not following.gap


def test_bytes_are_bounded_too() -> None:
    """A few huge messages cannot fill the memory."""
    outbox = Outbox(most_bytes=1000)
    for _ in range(5):
        outbox.put("", b"x" * 400)
    assert outbox.unsent == 2


def test_sent_messages_are_kept_for_a_while() -> None:
    """What was acknowledged can be sent again until RETAIN_S have passed."""
    outbox = Outbox()
    for _ in range(3):
        outbox.put("", b"x")
    outbox.acknowledge(3, 100.0)
    outbox.forget(100.0 + RETAIN_S / 2)
    outbox.rewind(1, 101.0)
    batch = outbox.batch()
    assert batch
    assert [m.seq for m in batch.messages] == [2, 3]
    outbox.acknowledge(3, 102.0)
    outbox.forget(103.0 + RETAIN_S)
    outbox.rewind(0, 200.0)
    assert outbox.batch() is None
