"""What counts as good enough, which points met it, and the knee: the last load that did."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.capacity.points import QUANTILES, Point
from harness.errors import UserError

DEFAULT = "p95=300ms,errors=0.1%"
_LATENCY = re.compile(r"(p50|p90|p95|p99)(?:<=|=|≤)(\d+(?:\.\d+)?)(ms|s)")
_ERRORS = re.compile(r"errors(?:<=|=|≤)(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Objective:
    """A latency quantile in ms, and the share of operations that may fail."""

    quantile: str = "p95"
    latency_ms: float = 300.0
    error_share: float = 0.001

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `p95=300ms,errors=0.1%`; either part may be left out. Raises UserError."""
        fields: dict[str, str | float] = {}
        for part in text.replace(" ", "").split(","):
            if found := _LATENCY.fullmatch(part):
                factor = 1 if found[3] == "ms" else 1000
                fields |= {"quantile": found[1], "latency_ms": float(found[2]) * factor}
            elif found := _ERRORS.fullmatch(part):
                fields["error_share"] = float(found[1]) / 100
            else:
                raise UserError(
                    f"--objective {text}: expected such as {DEFAULT}, with one of "
                    f"{', '.join(QUANTILES)}; got {part!r}"
                )
        return cls(**fields)  # type: ignore[arg-type]  # values typed above

    @property
    def words(self) -> str:
        """Return it as words."""
        return f"{self.quantile} ≤ {self.latency_ms:g} ms, errors ≤ {100 * self.error_share:g} %"

    def missed(self, point: Point) -> str:
        """Return why a usable point missed the objective; empty when it met it."""
        said = []
        if (took := point.latency_ms.get(self.quantile, 0.0)) > self.latency_ms:
            said.append(f"{self.quantile} {took:.0f} ms")
        if point.error_share > self.error_share:
            said.append(f"errors {100 * point.error_share:.2f} %")
        if point.broken:
            said.append(f"broken: {', '.join(point.broken)}")
        return ", ".join(said)


@dataclass(frozen=True)
class Knee:
    """The most users that met the objective, and the fewest above them that did not.

    `users` is None when no load met it, `above` when none missed it. `limit` says what the load
    above was: `missed`, `generator` (it could carry no more) or empty. `odd` are lower loads that
    missed although higher ones met: noise.
    """

    users: int | None
    above: int | None
    limit: str
    odd: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """Return it in words."""
        odd = f" ({', '.join(map(str, self.odd))} missed it by noise)" if self.odd else ""
        if self.users is None:
            missed = f"fewer than {self.above}: the lowest load missed the objective"
            return missed if self.limit == "missed" else "not measured: no usable load"
        if self.limit == "generator":
            return f"at least {self.users}: the generator could not load more{odd}"
        if self.above is None:
            return f"at least {self.users}: no load missed the objective{odd}"
        return f"{self.users}, at {self.above} the objective was missed{odd}"


def find_knee(points: Sequence[Point], objective: Objective) -> Knee:
    """Return the knee of one series.

    A miss counts when the next usable load misses as well, or when there is none: one slow point
    with faster ones above it is the machine's noise, and is named.
    """
    usable = sorted((p for p in points if not p.unusable), key=lambda p: p.key.users)
    met = [not objective.missed(point) for point in usable]
    first = next((i for i in range(len(met)) if not any(met[i : i + 2])), len(met))
    below = [p.key.users for p, good in zip(usable[:first], met, strict=False) if good]
    users = below[-1] if below else None
    odd = tuple(p.key.users for p, good in zip(usable[:first], met, strict=False) if not good)
    if first < len(usable):
        return Knee(users, usable[first].key.users, "missed", odd)
    bound = [p.key.users for p in points if p.unusable and p.key.users > (users or 0)]
    return Knee(users, min(bound, default=None), "generator" if bound else "", odd)
