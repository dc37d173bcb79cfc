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
DRIFT = 2.0  # what an equally busy machine may have changed between two sessions, at least
BUSY = 1.7  # latencies went with this power of the generator's lateness, at most (docs/compare.md)
STEADY = 1.5  # partners between which the lateness changed by more prove nothing
LATE_MS = 0.5  # differences below are none


@dataclass(frozen=True)
class Ratio:
    """B ÷ A of one metric, with its interval. `a` and `b` are in ms, or operations a second.

    `alone` is the factor to either end of the interval that it would have if it were the only one.
    """

    metric: Metric
    ratio: float
    low: float
    high: float
    a: float
    b: float
    alone: float

    @property
    def slower(self) -> tuple[float, float, float]:
        """Return ratio, low and high so that above 1 is worse, also of the throughput."""
        if self.metric[1] == THROUGHPUT:
            return 1 / self.ratio, 1 / self.high, 1 / self.low
        return self.ratio, self.low, self.high


@dataclass(frozen=True)
class Ratios:
    """All metrics that both sides have enough of, and how they were compared."""

    rows: tuple[Ratio, ...]
    rounds: int  # pairs, or rounds of the side that has fewer
    paired: bool
    drift: float = 1.0  # what the intervals were widened by
    unsteady: int = 0  # pairs left out because the machine changed between their two runs


def compare(a: Baseline, b: Baseline, seed: int = 0) -> Ratios:
    """Return the ratios of two baselines; `seed` is of the bootstrap.

    Baselines of different sessions, and fewer rounds than FEW, are widened by what a machine may
    have changed: nothing in the data says how much that is.
    """
    paired = a.session == b.session
    ours, theirs, unsteady = _pairs(a, b) if paired else (a.usable, b.usable, 0)
    metrics = common_metrics((*ours, *theirs)) if ours and theirs else []
    rounds = min(len(ours), len(theirs))
    if not metrics:
        return Ratios((), rounds, paired, unsteady=unsteady)
    before, after = (np.stack([measured(r, metrics) for r in side]) for side in (ours, theirs))
    random = np.random.default_rng(seed)
    if rounds < FEW:
        drawn = [_of_seconds(side, metrics, random) for side in (ours, theirs)]
    else:
        drawn = _of_rounds(before, after, paired, random)
    estimate = after.mean(axis=0) - before.mean(axis=0)
    drift = 1.0 if paired and rounds >= FEW else _drift(ours, theirs, before, after)
    half = half_widths(drawn[1] - drawn[0] - estimate, rounds) + math.log(drift)
    rows = _rows(metrics, estimate, half, (before, after))
    return Ratios(rows, rounds, paired, drift, unsteady)


def _pairs(a: Baseline, b: Baseline) -> tuple[Sequence[Round], Sequence[Round], int]:
    """Return the pairs of rounds that are usable on both sides, and how many were unsteady."""
    mine, other = ({one.number: one for one in side.usable} for side in (a, b))
    pairs = [(mine[n], other[n]) for n in sorted(mine.keys() & other.keys())]
    steady = [pair for pair in pairs if busier(*pair) <= STEADY]
    kept = steady if len(steady) >= FEW else pairs
    return [one for one, _ in kept], [one for _, one in kept], len(pairs) - len(kept)


def busier(one: Round, other: Round) -> float:
    """Return by what factor the machine was busier in one round than in another, 1 at least."""
    low, high = sorted((one.late_ms, other.late_ms))
    ratio: float = (high + LATE_MS) / (low + LATE_MS)
    return ratio


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
    """Return half of every metric's interval, from bootstrap deviations (draws, metrics).

    Shape (2, metrics): of all metrics together, and of each alone.
    """
    from scipy.stats import norm, t

    errors = np.maximum(deviations.std(axis=0), TINY)
    together = float(np.quantile(np.abs(deviations / errors).max(axis=1), CONFIDENCE))
    factors = np.array([together, norm.isf((1 - CONFIDENCE) / 2)])
    if rounds >= FEW:
        errors *= math.sqrt(rounds / (rounds - 1))
        factors = t.isf(norm.sf(factors), rounds - 1)
    widths: Array = np.outer(factors, errors)
    return widths


def _drift(ours: Sequence[Round], theirs: Sequence[Round], before: Array, after: Array) -> float:
    """Return what the machine may have changed between the sides: DRIFT at least.

    More when rounds of one side lay further apart, or one side's generator was later.
    """
    apart = [float(np.ptp(side, axis=0).max()) for side in (before, after)]
    busy = math.pow(max(busier(one, other) for one in ours for other in theirs), BUSY)
    return max(DRIFT * busy, math.exp(max(apart)))


def _rows(
    metrics: Sequence[Metric], estimate: Array, half: Array, sides: tuple[Array, Array]
) -> tuple[Ratio, ...]:
    ends = [estimate, estimate - half[0], estimate + half[0]]
    columns = np.exp([*ends, *(side.mean(axis=0) for side in sides), half[1]])
    return tuple(Ratio(metric, *map(float, columns[:, i])) for i, metric in enumerate(metrics))
