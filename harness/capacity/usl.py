"""The Universal Scalability Law fitted to measurements.

    X(N) = λN / (1 + σ(N - 1) + κN(N - 1))

N is the number of concurrent users, X the throughput in operations a second, λ the throughput of
one user alone, σ the share that is serialised (contention), κ the cost of agreement between users
(coherency). N. J. Gunther, "Guerrilla Capacity Planning", Springer 2007, chapters 4 to 6; with λ as
a third coefficient: B. Schwartz, "Practical Scalability Analysis with the USL", 2015.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError

LEAST_POINTS = 6
CONFIDENCE = 0.95
HEADER = ["concurrency", "throughput"]


@dataclass(frozen=True)
class Coefficient:
    """A fitted value with its confidence interval, cut off at 0."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Tell whether the data show that it is not 0."""
        return self.low > 0


@dataclass(frozen=True)
class Law:
    """A fitted law. `r_squared` is the share of the variance that it explains."""

    lam: Coefficient
    sigma: Coefficient
    kappa: Coefficient
    r_squared: float
    points: tuple[tuple[float, float], ...]

    def throughput(self, users: float) -> float:
        """Return X(N) in operations a second."""
        return float(_law(users, self.lam.value, self.sigma.value, self.kappa.value))

    @property
    def peak_users(self) -> float | None:
        """Return the N of the greatest throughput; None when it grows for ever (κ = 0)."""
        if self.kappa.value * self.points[-1][0] ** 2 < 1e-9:
            return None
        return math.sqrt(max(0.0, 1 - self.sigma.value) / self.kappa.value)


def _law(n: Any, lam: float, sigma: float, kappa: float) -> Any:
    return lam * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def fit(points: Sequence[tuple[float, float]]) -> Law:
    """Fit the law by non-linear least squares, λ, σ and κ free and not negative.

    `points` are (concurrent users, operations a second). Raises UserError for fewer than six
    different concurrencies, and for values that are not positive.
    """
    import numpy as np
    from scipy.optimize import curve_fit

    ordered = sorted(points)
    _refuse_thin(ordered)
    n, x = (np.array(column, dtype=float) for column in zip(*ordered, strict=True))
    start = (max(x / n), 0.01, 1e-4)
    try:
        values, covariance = curve_fit(_law, n, x, p0=start, bounds=(0, np.inf), max_nfev=20_000)
    except RuntimeError as error:
        raise UserError(f"the law does not fit these {len(ordered)} points: {error}") from error
    rest = float(((x - _law(n, *values)) ** 2).sum())
    spread = float(((x - x.mean()) ** 2).sum())
    lam, sigma, kappa = _intervals(values, np.sqrt(np.diag(covariance)), len(ordered))
    r_squared = 1 - rest / spread if spread else 0.0
    return Law(lam, sigma, kappa, r_squared, tuple(ordered))


def _refuse_thin(points: Sequence[tuple[float, float]]) -> None:
    if bad := [p for p in points if not (p[0] > 0 and p[1] > 0 and math.isfinite(p[0] + p[1]))]:
        raise UserError(f"expected concurrency and throughput above 0; got {bad[0]}")
    different = len({n for n, _ in points})
    if different < LEAST_POINTS:
        raise UserError(
            f"expected at least {LEAST_POINTS} different concurrencies, got {different}: three "
            "coefficients fitted to so few points would be a guess. Measure more loads, some of "
            "them beyond the point where throughput stops growing"
        )


def _intervals(values: Any, errors: Any, points: int) -> list[Coefficient]:
    """Return Student's interval of each coefficient, with points - 3 degrees of freedom."""
    from scipy.stats import t

    factor = float(t.ppf((1 + CONFIDENCE) / 2, points - 3))
    return [
        Coefficient(float(v), max(0.0, float(v - factor * e)), float(v + factor * e))
        for v, e in zip(values, errors, strict=True)
    ]


def read_points(path: Path) -> list[tuple[float, float]]:
    """Read a CSV file with the header `concurrency,throughput`; raise UserError with the line."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "expected text in UTF-8"
        raise UserError(f"{path}: cannot read it as text: {why}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if header != HEADER:
        raise UserError(f"{path}:1: expected the header {','.join(HEADER)}; got {','.join(header)}")
    return [_point(path, line, row) for line, row in enumerate(rows[1:], 2) if any(row)]


def _point(path: Path, line: int, row: list[str]) -> tuple[float, float]:
    try:
        concurrency, throughput = map(float, row)
    except ValueError:
        raise UserError(
            f"{path}:{line}: expected two numbers, such as 50,1234.5; got {','.join(row)}"
        ) from None
    return concurrency, throughput


def in_words(law: Law) -> str:
    """Return the coefficients with 5 significant digits, their intervals, and what they mean."""
    rows = (
        ("λ", law.lam, "operations a second of one user alone"),
        ("σ", law.sigma, "contention: the share that is serialised"),
        ("κ", law.kappa, "coherency: the cost of agreement"),
    )
    lines = [
        f"{name} = {c.value:.5g}  (95 % between {c.low:.3g} and {c.high:.3g}; {words}"
        + ("" if c.certain else "; the data do not show that it is not 0")
        + ")"
        for name, c, words in rows
    ]
    lines.append(f"R² = {law.r_squared:.4f} over {len(law.points)} points")
    peak = law.peak_users
    if peak is None:
        return "\n".join([*lines, "No peak: throughput grows with every user, by less and less."])
    most = f"{law.throughput(peak):.5g} operations a second"
    return "\n".join([*lines, f"Peak: {most} at {peak:.0f} users; more users get less done."])
