"""From points to answers: knees, laws, memory, connections, predictions. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from harness.capacity import usl
from harness.capacity.cpus import CpuPlan
from harness.capacity.objective import Knee, Objective, find_knee
from harness.capacity.points import Point
from harness.errors import UserError

MOST_WORKERS = 16  # predictions go so far
WORTH = 0.5  # of the first worker's users: a further one that adds less hardly pays
REDIS_FULL = 0.8  # of one core: Redis runs commands in one thread
SPARE_CLIENTS = 50  # replicas, Sentinels, monitoring, people
AT_ONCE = 2  # a rolling restart has old and new workers at once
POSTGRES_RESERVED = 3  # superuser_reserved_connections
LEAST_FOR_SLOPE = 4


@dataclass(frozen=True)
class Slope:
    """A straight line through measurements: value at 0 and per unit, with a 95 % interval."""

    base: float
    per_unit: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """All points of one topology and number of workers, and what follows from them."""

    topology: str
    workers: int
    points: tuple[Point, ...]
    knee: Knee
    law: usl.Law | None
    refusal: str  # why there is no law
    memory: Slope | None  # bytes of all workers over connected users
    own_processors: bool  # each worker could have one of its own

    @property
    def usable(self) -> list[Point]:
        """Return the points that say something about the workers."""
        return [point for point in self.points if not point.unusable]

    @property
    def cpu_ms(self) -> float | None:
        """Return the workers' processor time of one operation with all that belongs to it."""
        return _ratio(self.usable, lambda p: 1000 * p.worker_cpu, lambda p: p.operations_per_s)

    @property
    def redis_cpu_per_user(self) -> float | None:
        """Return the share of a core that the busiest Redis server uses for one user."""
        return _ratio(self.usable, lambda p: p.redis_cpu, lambda p: p.key.users)

    @property
    def connections(self) -> int:
        """Return the most connections of one worker to one Redis node."""
        return max((point.node_connections for point in self.points), default=0)

    def cpu_at(self, users: float) -> float:
        """Return the workers' processor time at a load, between its two nearest points."""
        import numpy as np

        ordered = sorted(self.usable, key=lambda p: p.key.users)
        loads = [p.key.users for p in ordered]
        return float(np.interp(users, loads, [p.worker_cpu for p in ordered]))


def _ratio(points: Sequence[Point], above: Any, below: Any) -> float | None:
    """Return the median ratio over the upper half of the loads: idle costs weigh less there."""
    upper = sorted(points, key=lambda p: p.key.users)[len(points) // 2 :]
    ratios = [above(point) / below(point) for point in upper if below(point)]
    return median(ratios) if ratios else None


def make_series(
    topology: str, workers: int, points: Sequence[Point], objective: Objective, cpus: CpuPlan
) -> Series:
    """Return a series with its knee, law and memory."""
    usable = [point for point in points if not point.unusable]
    law, refusal = _law(usable)
    return Series(
        topology,
        workers,
        tuple(points),
        find_knee(points, objective),
        law,
        refusal,
        slope([(p.key.users, p.worker_rss) for p in usable]),
        cpus.split and workers <= cpus.for_workers,
    )


def _law(points: Sequence[Point]) -> tuple[usl.Law | None, str]:
    try:
        return usl.fit([(p.key.users, p.operations_per_s) for p in points]), ""
    except UserError as error:
        return None, str(error)


def slope(pairs: Sequence[tuple[float, float]]) -> Slope | None:
    """Return the least-squares line with Student's interval; None for fewer than four points."""
    if len({x for x, _ in pairs}) < LEAST_FOR_SLOPE:
        return None
    from scipy.stats import linregress, t

    line = linregress([x for x, _ in pairs], [y for _, y in pairs])
    reach = float(t.ppf(0.975, len(pairs) - 2)) * float(line.stderr)
    per_unit = float(line.slope)
    return Slope(float(line.intercept), per_unit, per_unit - reach, per_unit + reach)


@dataclass(frozen=True)
class Scaling:
    """How users grow with workers: one worker's users, and the share that each other costs.

    users(W) = one · W / (1 + σ(W - 1)), the scalability law over workers. σ is how much more
    processor time an operation takes with every further worker. `redis_users` is where one Redis
    server would be full; None when it used too little to tell. `carried` are measured users by
    workers, also where workers shared processors: with one each they carry no fewer.
    """

    one: float
    sigma: float
    redis_users: float | None
    carried: Mapping[int, int] = field(default_factory=dict)

    def users(self, workers: int) -> float:
        """Return the users that so many workers carry, each on a processor of its own."""
        free = self.one * workers / (1 + self.sigma * (workers - 1))
        limited = free if self.redis_users is None else min(free, self.redis_users)
        return max(limited, float(self.carried.get(workers, 0)))

    @property
    def best(self) -> int:
        """Return the number of workers after which a further one adds less than WORTH of one."""
        for workers in range(1, MOST_WORKERS):
            if self.users(workers + 1) - self.users(workers) < WORTH * self.one:
                return workers
        return MOST_WORKERS


def scaling(series: Sequence[Series]) -> Scaling | None:
    """Return how the users of one topology grow with workers.

    From measured processor time, which does not depend on how many workers share a processor: all
    at the least of the knees, because an overloaded worker does less for a user. None without a
    knee of one worker, and without a second number of workers.
    """
    knees = {s.workers: s.knee.users for s in series if s.knee.users}
    if 1 not in knees or len(knees) < 2:
        return None
    one, common = knees[1], min(knees.values())
    costs = {s.workers: s.cpu_at(common) for s in series if s.workers in knees}
    more = [(workers - 1, cost / costs[1] - 1) for workers, cost in costs.items() if workers > 1]
    sigma = sum(x * y for x, y in more) / sum(x * x for x, _ in more)
    return Scaling(float(one), max(0.0, sigma), _redis_users(series), knees)


def _redis_users(series: Sequence[Series]) -> float | None:
    shares = [share for s in series if (share := s.redis_cpu_per_user)]
    return REDIS_FULL / max(shares) if shares else None


def maxclients(workers: int, connections: int) -> int:
    """Return the least `maxclients` of a Redis node: a rolling restart, and clients of others."""
    return AT_ONCE * workers * connections + SPARE_CLIENTS


@dataclass(frozen=True)
class DatabaseNeed:
    """(pool + overflow) x workers, twice in a rolling restart, against `max_connections`."""

    pool: int
    overflow: int
    most: int

    def needed(self, workers: int) -> int:
        """Return the connections at the worst moment."""
        return AT_ONCE * workers * (self.pool + self.overflow)

    @property
    def workers(self) -> int:
        """Return how many workers the database allows."""
        return (self.most - POSTGRES_RESERVED) // (AT_ONCE * (self.pool + self.overflow))
