"""Rounds for tests of comparisons: made up from a seed, or drawn from recorded runs."""

from __future__ import annotations

import gzip
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import orjson

from harness.compare.baseline import Baseline
from harness.compare.rounds import Round

OPS = {"me": (30, 3.0), "stop": (6, 8.0), "chat_start": (5, 12.0)}  # a second, typical ms
SECONDS = 16
RECORDED = Path(__file__).with_name("recorded_runs.json.gz")


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
    seed: int, rounds: int = 12, slower: float = 1.0, noise: float = 0.04
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


@cache
def recorded() -> list[Baseline]:
    """Return recorded runs of the three baseline scenarios, a baseline each.

    They were made on a busy machine of two cores: the same run took up to eight times as long.
    """
    raw = orjson.loads(gzip.decompress(RECORDED.read_bytes()))
    rounds = [(one, tuple(Round.from_json(r) for r in one["rounds"])) for one in raw]
    return [Baseline(**{**one, "rounds": found}) for one, found in rounds]


def drawn_pair(seed: int, slower: float = 1.0) -> tuple[Baseline, Baseline]:
    """Return two baselines: two draws of the seconds of each of twelve recorded runs."""
    rng = np.random.default_rng(seed)
    runs = recorded()
    picked = [runs[i].rounds[0] for i in rng.choice(len(runs), 12, replace=False)]
    sides = [
        [drawn(replace(one, number=n), rng, factor) for n, one in enumerate(picked)]
        for factor in (1.0, slower)
    ]
    return baseline("a", sides[0]), baseline("b", sides[1])


def drawn(one: Round, rng: np.random.Generator, slower: float) -> Round:
    """Return a round of seconds drawn from another, with latencies `slower` times as long."""
    seconds = rng.integers(len(one.answered), size=len(one.answered))
    latencies = {
        op: [[slower * value for value in found[s]] for s in seconds]
        for op, found in one.latencies.items()
    }
    return replace(one, latencies=latencies, answered=[one.answered[s] for s in seconds])
