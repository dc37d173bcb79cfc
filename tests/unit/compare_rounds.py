"""Rounds for tests of comparisons: made up from a seed, with the noise that machines have."""

from __future__ import annotations

import numpy as np

from harness.compare.baseline import Baseline
from harness.compare.rounds import Round

OPS = {"me": (30, 3.0), "stop": (6, 8.0), "chat_start": (5, 12.0)}  # a second, typical ms
SECONDS = 16


def made_round(number: int, rng: np.random.Generator, speed: float, slower: float = 1.0) -> Round:
    """Return a round on a machine of that speed, with operations that take `slower` times as long.

    Latencies are log-normal; one second in twenty is a stall of the machine.
    """
    latencies: dict[str, list[list[float]]] = {}
    stalls = np.where(rng.random(SECONDS) < 0.05, 20.0, 1.0)
    for op, (rate, typical) in OPS.items():
        scale = typical * speed * slower
        latencies[op] = [
            (scale * stall * rng.lognormal(0, 0.5, rng.poisson(rate))).round(3).tolist()
            for stall in stalls
        ]
    answered = [sum(len(latencies[op][s]) for op in OPS) for s in range(SECONDS)]
    return Round(number, 1_000.0 + number, f"run-{number}", latencies, answered)


def made_pair(
    seed: int, rounds: int = 10, slower: float = 1.0, noise: float = 0.04
) -> tuple[Baseline, Baseline]:
    """Return two baselines measured in turns while the machine's speed wanders tenfold.

    `noise` is by how much neighbouring runs differ, as the deviation of a logarithm.
    """
    rng = np.random.default_rng(seed)
    speeds = np.exp(rng.uniform(0, np.log(10), rounds))
    sides: tuple[list[Round], list[Round]] = ([], [])
    for number, speed in enumerate(speeds):
        for side, factor in zip(sides, (1.0, slower), strict=True):
            near = speed * rng.lognormal(0, noise)
            side.append(made_round(number, rng, near, factor))
    return baseline("a", sides[0]), baseline("b", sides[1])


def baseline(name: str, rounds: list[Round], session: str = "one", load: str = "l") -> Baseline:
    """Return a baseline of these rounds."""
    return Baseline(name, "quick", "runtime", session, load, tuple(rounds))
