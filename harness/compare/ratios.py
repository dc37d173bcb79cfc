"""Paired ratios of two baselines, with a confidence that holds for all metrics together.

A metric is an operation and a quantile of its latency; of operation `all`, the mean over the
operations; or the throughput. All arithmetic is on logarithms, where a ratio is a difference.

What varies is estimated by a bootstrap: of rounds, drawn again in pairs, because one round differs
from the next far more than one second from the next; of the seconds within rounds when there are
too few rounds to tell. The largest deviation of any metric decides how wide all intervals are
(max-T), so that many metrics do not find a difference by chance. A bootstrap of few rounds has too
light a tail; Student's t, with one degree of freedom less than there are rounds, corrects it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.baseline import Baseline
from harness.compare.rounds import Round

Array = NDArray[np.float64]
Metric = tuple[str, str]
ALL, THROUGHPUT = "all", "throughput"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LEAST = {"p50": 20, "p95": 60, "p99": 300}  # operations in every round: three lie beyond the tail
CONFIDENCE = 0.99  # that no metric is called changed when nothing changed
RESAMPLES = 200  # of a round's seconds
DRAWS = 4000  # of rounds
FEW = 4  # rounds, below which they do not show how much rounds differ
TINY = 1e-3  # ms, or operations a second: has a logarithm, changes no ratio
DRIFT = 1.5  # what a machine may have changed between two sessions, at least


@dataclass(frozen=True)
class Ratio:
    """B ÷ A of one metric, with its interval. `a` and `b` are in ms, or operations a second."""

    metric: Metric
    ratio: float
    low: float
    high: float
    a: float
    b: float

    @property
    def slower(self) -> tuple[float, float, float]:
        """Return ratio, low and high so that above 1 is worse, also of the throughput."""
        if self.metric[1] == THROUGHPUT:
            return 1 / self.ratio, 1 / self.high, 1 / self.low
        return self.ratio, self.low, self.high

    @property
    def width(self) -> float:
        """Return the factor between the ratio and an end of its interval."""
        return math.sqrt(self.high / self.low)


@dataclass(frozen=True)
class Ratios:
    """All metrics that both sides have enough of, and how they were compared."""

    rows: tuple[Ratio, ...]
    rounds: int  # pairs, or rounds of the side that has fewer
    paired: bool
    drift: float = 1.0  # what the intervals were widened by


def compare(a: Baseline, b: Baseline, seed: int = 0) -> Ratios:
    """Return the ratios of two baselines; `seed` is of the bootstrap.

    Baselines of different sessions, and fewer rounds than FEW, are widened by what a machine may
    have changed: nothing in the data says how much that is.
    """
    paired = a.session == b.session
    ours, theirs = _pairs(a, b) if paired else (a.usable, b.usable)
    metrics = common_metrics((*ours, *theirs)) if ours and theirs else []
    rounds = min(len(ours), len(theirs))
    if not metrics:
        return Ratios((), rounds, paired)
    before, after = (np.stack([measured(r, metrics) for r in side]) for side in (ours, theirs))
    random = np.random.default_rng(seed)
    if rounds < FEW:
        drawn = [_of_seconds(side, metrics, random) for side in (ours, theirs)]
    else:
        drawn = _of_rounds(before, after, paired, random)
    estimate = after.mean(axis=0) - before.mean(axis=0)
    drift = 1.0 if paired and rounds >= FEW else _drift(before, after)
    half = half_widths(drawn[1] - drawn[0] - estimate, rounds) + math.log(drift)
    return Ratios(_rows(metrics, estimate, half, before, after), rounds, paired, drift)


def _pairs(a: Baseline, b: Baseline) -> tuple[list[Round], list[Round]]:
    """Return the rounds of both that are usable on both sides, by number."""
    mine, other = ({one.number: one for one in side.usable} for side in (a, b))
    numbers = sorted(mine.keys() & other.keys())
    return [mine[n] for n in numbers], [other[n] for n in numbers]


def common_metrics(rounds: Sequence[Round]) -> list[Metric]:
    """Return what every round has enough operations for; throughput always."""
    found: list[Metric] = []
    for op in sorted(set.intersection(*(set(one.latencies) for one in rounds)) if rounds else ()):
        fewest = min(sum(len(one.latencies[op][s]) for s in one.kept) for one in rounds)
        found += [(op, name) for name in QUANTILES if fewest >= LEAST[name]]
    summed = [(ALL, name) for name in QUANTILES if any(q == name for _, q in found)]
    return [*summed, (ALL, THROUGHPUT), *found] if found else []


def measured(one: Round, metrics: Sequence[Metric]) -> Array:
    """Return the logarithm of each metric of a round."""
    columns: Array = _logarithms(one, metrics, np.array([one.kept]))[0]
    return columns


def _logarithms(one: Round, metrics: Sequence[Metric], draws: Any) -> Array:
    """Return logarithms, shape (draws, metrics); a draw is a list of seconds."""
    answered = np.array(one.answered, dtype=float)
    columns = {(ALL, THROUGHPUT): np.log(np.maximum(answered[draws].mean(axis=1), TINY))}
    for op in {op for op, _ in metrics} - {ALL}:
        seconds = [np.array(values) for values in one.latencies[op]]
        columns |= {(op, name): found for name, found in _quantiles(seconds, draws).items()}
    for name in QUANTILES:
        ops = [columns[m] for m in metrics if m[0] != ALL and m[1] == name]
        if ops:
            columns[ALL, name] = np.mean(ops, axis=0)
    return np.column_stack([columns[metric] for metric in metrics])


def _quantiles(seconds: list[Array], draws: Any) -> dict[str, Array]:
    """Return the logarithm of each quantile for every draw of seconds."""
    found = np.full((len(draws), len(QUANTILES)), math.log(TINY))
    for place, draw in enumerate(draws):
        values = np.concatenate([seconds[second] for second in draw])
        if len(values):
            found[place] = np.log(np.quantile(values, list(QUANTILES.values())) + TINY)
    return {name: found[:, i] for i, name in enumerate(QUANTILES)}


def _of_seconds(
    rounds: Sequence[Round], metrics: Sequence[Metric], random: np.random.Generator
) -> Array:
    """Return means over rounds whose seconds were drawn again, shape (RESAMPLES, metrics)."""
    each = []
    for one in rounds:
        kept = np.array(one.kept)
        draws = kept[random.integers(len(kept), size=(RESAMPLES, len(kept)))]
        each.append(_logarithms(one, metrics, draws))
    mean: Array = np.mean(each, axis=0)
    return mean


def _of_rounds(
    before: Array, after: Array, paired: bool, random: np.random.Generator
) -> list[Array]:
    """Return the means of both sides over rounds drawn again, each of shape (DRAWS, metrics)."""
    first = random.integers(len(before), size=(DRAWS, len(before)))
    second = first if paired else random.integers(len(after), size=(DRAWS, len(after)))
    return [before[first].mean(axis=1), after[second].mean(axis=1)]


def half_widths(deviations: Array, rounds: int) -> Array:
    """Return half the interval of every metric, from bootstrap deviations (draws, metrics)."""
    from scipy.stats import norm, t

    errors = np.maximum(deviations.std(axis=0), TINY)
    factor = float(np.quantile(np.abs(deviations / errors).max(axis=1), CONFIDENCE))
    if rounds >= FEW:
        errors *= math.sqrt(rounds / (rounds - 1))
        factor = float(t.isf(norm.sf(factor), rounds - 1))
    widths: Array = factor * errors
    return widths


def _drift(before: Array, after: Array) -> float:
    """Return how far apart rounds of one side were, DRIFT at least: so far may sessions be."""
    apart = [float(np.ptp(side, axis=0).max()) for side in (before, after)]
    return max(DRIFT, math.exp(max(apart)))


def _rows(
    metrics: Sequence[Metric], estimate: Array, half: Array, before: Array, after: Array
) -> tuple[Ratio, ...]:
    ends = np.exp([estimate, estimate - half, estimate + half])
    sides = np.exp([before.mean(axis=0), after.mean(axis=0)])
    return tuple(
        Ratio(metric, *map(float, (*ends[:, i], *sides[:, i]))) for i, metric in enumerate(metrics)
    )
