"""Planted points of a sweep: a machine whose capacity is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.capacity.points import MIB, Key, Point

WORKER_MIB = 90
KIB_PER_USER = 40


def point(users: int, workers: int = 1, *, p95: float = 40.0, **changes: Any) -> Point:
    """Return a point that met the default objective unless changed."""
    made = Point(
        Key("standalone", workers, users),
        operations_per_s=users * 0.9,
        operations=users * 18,
        latency_ms={"p50": 10.0, "p90": 30.0, "p95": p95, "p99": 2 * p95},
        worker_cpu=users * 0.9 * 0.003 * (1 + 0.2 * (workers - 1)),
        redis_cpu=users * 0.0004,
        worker_rss=workers * WORKER_MIB * MIB + users * KIB_PER_USER * 1024,
        redis_memory=3.0 * MIB,
        connections=4,
        node_connections=4,
        sockets=users,
    )
    return replace(made, **changes)


def law_points(workers: int = 1, *, lam: float = 1.0, sigma: float = 0.002) -> list[Point]:
    """Return eight points of a law with this λ and σ, κ 2e-6; the objective is missed from 400."""
    return [
        point(
            n,
            workers,
            p95=40.0 if n < 400 else 900.0,
            operations_per_s=lam * n / (1 + sigma * (n - 1) + 2e-6 * n * (n - 1)),
        )
        for n in (25, 50, 100, 200, 283, 336, 400, 800)
    ]
