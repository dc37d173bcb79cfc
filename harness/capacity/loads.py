"""Which load to try next: up by doubling until the objective is missed, then closer to the knee."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from harness.capacity.objective import Knee, Objective, find_knee
from harness.capacity.points import Point

FIRST = 25
MOST = 10_000
CLOSE = 1.2  # a knee known within 20 % is close enough
BEYOND = 2.5  # times the knee: the law needs a load where throughput has stopped growing


def next_load(points: Sequence[Point], objective: Objective, first: int = FIRST) -> int:
    """Return the number of users to try next in a series; never one that was tried."""
    tried = {point.key.users for point in points}
    if not tried:
        return first
    return _fresh(_wanted(find_knee(points, objective), tried), tried)


def _wanted(knee: Knee, tried: Collection[int]) -> float:
    if knee.users is None:
        return min(tried) / 2
    if knee.above is None:
        return min(MOST, max(tried) * 2)
    if knee.above / knee.users > CLOSE:
        return float((knee.above * knee.users) ** 0.5)
    if knee.limit == "missed" and max(tried) < BEYOND * knee.users:
        return BEYOND * knee.users
    return _widest_gap(tried)


def _widest_gap(tried: Collection[int]) -> float:
    """Return the middle of the greatest ratio between neighbours, where the law knows least."""
    ordered = sorted(tried)
    low, high = max(
        itertools.pairwise(ordered),
        key=lambda pair: pair[1] / pair[0],
        default=(ordered[0], 2 * ordered[0]),
    )
    return float((low * high) ** 0.5)


def _fresh(wanted: float, tried: Collection[int]) -> int:
    """Return the nearest untried whole number, rounded to fives from 50 up."""
    step = 5 if wanted >= 50 else 1
    base = max(1, step * round(wanted / step))
    near = (base + sign * step * k for k in range(len(tried) + 2) for sign in (1, -1))
    return next(users for users in near if users >= 1 and users not in tried)
