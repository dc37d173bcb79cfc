"""How load changes over time: stretches with a rate of reads and a number of users each.

Times are seconds of load: 0 is the start of the warm-up. Everything here is decided before the
run; the load processes read it from the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.choices import Choices
from harness.load_specs import Load, Piece, piece

WARM_UP = "warm-up"
_EVEN = 1e-9  # rates closer than this are the same


@dataclass(frozen=True)
class Flow:
    """Arrivals between two times, whose rate goes evenly from `first` to `last` a second."""

    start: float
    end: float
    first: float
    last: float

    @property
    def amount(self) -> float:
        """Return how many arrivals it holds."""
        return (self.end - self.start) * (self.first + self.last) / 2

    def when(self, count: float) -> float:
        """Return the time at which `count` arrivals (0 to `amount`) have come."""
        growth = (self.last - self.first) / (self.end - self.start)
        if abs(self.last - self.first) < _EVEN:
            return self.start + count / self.first
        reached = math.sqrt(max(0.0, self.first**2 + 2 * growth * count))
        return self.start + (reached - self.first) / growth


@dataclass(frozen=True)
class Stretch:
    """A named part of the load; levels are (at its start, at its end)."""

    name: str
    start: float
    end: float
    reads_per_s: tuple[float, float]
    users: tuple[int, int]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Stretch:
        """Read one back from a plan file."""
        levels = {"reads_per_s": tuple(raw["reads_per_s"]), "users": tuple(raw["users"])}
        return cls(**{**raw, **levels})

    @property
    def reads(self) -> Flow:
        """Return its reads."""
        return Flow(self.start, self.end, *self.reads_per_s)

    def presence(self, user: int) -> tuple[float, float] | None:
        """Return from when to when user number `user` is there; None when it is not.

        It comes when the level reaches its number and leaves when the level falls below.
        """
        first, last = self.users
        if user < min(first, last):
            return self.start, self.end
        if user >= max(first, last):
            return None
        share = (user + 1 - first) / (last - first)
        crossing = self.start + share * (self.end - self.start)
        return (crossing, self.end) if last > first else (self.start, crossing)


def arrivals(flows: Sequence[Flow], choices: Choices) -> Iterator[float]:
    """Yield the times of the arrivals: one in every slot of the rate, at a random place in it.

    The slots go on from one flow to the next, so a fraction of a slot is not lost between them.
    """
    done, slot = 0.0, 0
    due = choices.next()
    for flow in flows:
        amount = flow.amount
        while due < done + amount:
            yield flow.when(due - done)
            slot += 1
            due = slot + choices.next()
        done += amount


def presence(shape: Sequence[Stretch], user: int) -> list[tuple[float, float]]:
    """Return the windows in which a user is there; windows that touch are one."""
    windows: list[tuple[float, float]] = []
    for window in (stretch.presence(user) for stretch in shape):
        if window is None or window[0] >= window[1]:
            continue
        if windows and windows[-1][1] >= window[0]:
            windows[-1] = (windows[-1][0], window[1])
        else:
            windows.append(window)
    return windows


def peak_users(shape: Sequence[Stretch]) -> int:
    """Return how many users there are at most: so many accounts are made."""
    return max(max(stretch.users) for stretch in shape)


def lasting_users(shape: Sequence[Stretch]) -> int:
    """Return how many users are there from start to end."""
    return min(min(stretch.users) for stretch in shape)


def make_shape(load: Load, warmup_s: float, duration_s: float) -> tuple[Stretch, ...]:
    """Return the stretches of a scenario's load.

    Raises ValueError when they last longer than the measured part.
    """
    reads, users = float(load.reads_per_s), load.users
    stretches = []
    if warmup_s:
        stretches.append(Stretch(WARM_UP, 0.0, warmup_s, (reads, reads), (users, users)))
    t = warmup_s
    for number, each in enumerate(_filled(_pieces(load, duration_s), duration_s), 1):
        to_reads = reads if each.reads_per_s is None else each.reads_per_s
        to_users = users if each.users is None else each.users
        levels = (
            (reads if each.ramp else to_reads, to_reads),
            (
                users if each.ramp else to_users,
                to_users,
            ),
        )
        stretches.append(Stretch(each.name or f"part {number}", t, t + each.for_s, *levels))
        t, reads, users = t + each.for_s, to_reads, to_users
    return tuple(stretches)


def _filled(pieces: list[Piece], duration_s: float) -> list[Piece]:
    """Return pieces that fill the measured part: the last levels go on to its end."""
    total = sum(each.for_s for each in pieces)
    if total > duration_s + _EVEN:
        raise ValueError(
            f"load: its parts last {total:g} s together, longer than duration_s ({duration_s:g} s)"
        )
    if duration_s - total > _EVEN:
        pieces = [*pieces, piece(for_s=duration_s - total, name="rest" if pieces else "load")]
    return pieces


def _pieces(load: Load, duration_s: float) -> list[Piece]:
    if load.spike:
        return _spike(load, duration_s)
    if load.ramp:
        ramp = load.ramp.model_dump() | {"for_s": load.ramp.for_s or duration_s}
        return [piece(**ramp, ramp=True, name="ramp")]
    if load.steps:
        return _steps(load, duration_s)
    if load.soak:
        each_s = duration_s / load.soak.parts
        return [piece(for_s=each_s, name=f"part {n}") for n in range(1, load.soak.parts + 1)]
    return list(load.shape)


def _spike(load: Load, duration_s: float) -> list[Piece]:
    assert load.spike is not None  # the caller looked
    base = {"reads_per_s": load.reads_per_s, "users": load.users}
    spike = piece(**load.spike.model_dump(exclude={"at"}), name="spike")
    before, after = load.spike.at, duration_s - load.spike.at - spike.for_s
    return [
        *([piece(for_s=before, name="before", **base)] if before else []),
        spike,
        *([piece(for_s=after, name="after", **base)] if after > _EVEN else []),
    ]


def _steps(load: Load, duration_s: float) -> list[Piece]:
    assert load.steps is not None  # the caller looked
    count = max(len(load.steps.reads_per_s), len(load.steps.users))
    columns = {
        name: levels for name in ("reads_per_s", "users") if (levels := getattr(load.steps, name))
    }
    return [
        piece(
            for_s=duration_s / count,
            name=f"step {n + 1}",
            **{name: levels[n] for name, levels in columns.items()},
        )
        for n in range(count)
    ]
