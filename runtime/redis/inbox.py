"""Exactly once and in order, per publisher, out of a log that may repeat and skip. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

HOLD_S = 2.0  # how long later messages wait for a hole to be filled
MOST_HELD = 20_000
MOST_ORIGINS = 4096


@dataclass(slots=True)
class _Origin(Generic[T]):
    """`held` are messages after a hole, with their arrival, in the order of it.

    `declared` are those of them before which there is nothing more to come.
    """

    expected: int
    held: OrderedDict[int, tuple[float, T]] = field(default_factory=OrderedDict)
    declared: set[int] = field(default_factory=set)
    looked_back: float = float("-inf")

    @property
    def since(self) -> float:
        """When the first hole was seen: all that is held lies behind it."""
        return next(iter(self.held.values()))[0]


@dataclass(frozen=True)
class Gap:
    """Messages of a publisher that are lost for good: readers need to resync."""

    origin: bytes
    first: int
    last: int


class Inbox(Generic[T]):
    """Accepts (origin, seq, item) in any order, any number of times; yields each item once.

    The first number seen of an unknown origin is where it begins: a reader that joins late has
    not lost what was before it.
    """

    def __init__(self) -> None:
        self._origins: OrderedDict[bytes, _Origin[T]] = OrderedDict()
        self._holes: set[bytes] = set()
        self.duplicates = 0

    def accept(
        self, origin: bytes, seq: int, item: T, now: float, declared_gap: bool = False
    ) -> Iterator[T | Gap]:
        """Yield what can be delivered now, in order; `declared_gap`: no earlier one will come."""
        state = self._origins.get(origin)
        if state is None:
            state = self._meet(origin, seq)
        self._origins.move_to_end(origin)
        if seq < state.expected or seq in state.held:
            self.duplicates += 1
            return
        if seq > state.expected:
            self._holes.add(origin)
            state.held[seq] = (now, item)
            if declared_gap:
                state.declared.add(seq)
            if len(state.held) > MOST_HELD:
                yield from self._skip(origin, state)
        else:
            yield item
            state.expected += 1
        if state.held:
            yield from self._drain(origin, state)

    def _meet(self, origin: bytes, seq: int) -> _Origin[T]:
        if len(self._origins) >= MOST_ORIGINS:
            gone, _ = self._origins.popitem(last=False)
            self._holes.discard(gone)
        state = self._origins[origin] = _Origin(seq)
        return state

    def _drain(self, origin: bytes, state: _Origin[T]) -> Iterator[T | Gap]:
        """Yield what follows, also over holes that nobody will fill."""
        while state.expected in state.held:
            yield state.held.pop(state.expected)[1]
            state.declared.discard(state.expected)
            state.expected += 1
        if not state.held:
            self._holes.discard(origin)
        elif state.declared and min(state.held) in state.declared:
            yield from self._skip(origin, state)

    def _skip(self, origin: bytes, state: _Origin[T]) -> Iterator[T | Gap]:
        """Give up everything before what is held."""
        first = min(state.held)
        yield Gap(origin, state.expected, first - 1)
        state.expected = first
        yield from self._drain(origin, state)

    def new_hole(self, now: float) -> bool:
        """Return True once per hole: worth one look further back in the log."""
        holes = [self._origins[origin] for origin in self._holes]
        fresh = [state for state in holes if state.since > state.looked_back]
        for state in holes if fresh else ():
            state.looked_back = now
        return bool(fresh)

    def expire(self, now: float) -> Iterator[T | Gap]:
        """Yield what waited longer than HOLD_S for a hole, after the Gap."""
        for origin in list(self._holes):
            state = self._origins[origin]
            while state.held and now - state.since > HOLD_S:
                yield from self._skip(origin, state)
