"""The one time axis that all lanes share, and the grid of buckets on it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from harness.report.series import BUCKET_S, Series

WIDTH = 1240.0
LEFT = 210.0
RIGHT = 24.0
MAX_CELLS = 400  # more buckets than this are merged, so that a long run stays readable


@dataclass(frozen=True)
class Axis:
    """Maps load seconds to x; cell i covers `per_cell` buckets from `first`."""

    start: float
    end: float
    per_cell: int

    @classmethod
    def of(cls, series: Series) -> Axis:
        """Return the axis from the start of warm-up to the end of quiescence."""
        ends = [bar.start for bar in series.phases if bar.kind in ("collect", "teardown")]
        start = min(series.start, 0.0)
        end = max(min(ends, default=series.end), start + 1.0)
        buckets = math.ceil((end - start) / BUCKET_S)
        return cls(start, end, max(1, math.ceil(buckets / MAX_CELLS)))

    @property
    def cell_s(self) -> float:
        """Return how many seconds one cell covers."""
        return self.per_cell * BUCKET_S

    @property
    def cells(self) -> int:
        """Return the number of cells."""
        return math.ceil((self.end - self.start) / self.cell_s)

    @property
    def cell_width(self) -> float:
        """Return the width of a cell in pixels."""
        return self.cell_s * (WIDTH - LEFT - RIGHT) / (self.end - self.start)

    def x(self, t: float) -> float:
        """Return the x of a time, kept inside the picture."""
        share = (t - self.start) / (self.end - self.start)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def shows(self, start: float, end: float) -> bool:
        """Tell whether any of [start, end] is in the picture."""
        return end >= self.start and start <= self.end

    def buckets(self, cell: int) -> range:
        """Return the bucket numbers of a cell."""
        first = math.floor(self.start / BUCKET_S) + cell * self.per_cell
        return range(first, first + self.per_cell)

    def cell_of(self, t: float) -> int:
        """Return the cell of a time, kept inside the picture."""
        return min(max(int((t - self.start) / self.cell_s), 0), self.cells - 1)

    def total(self, counts: Counter[int], cell: int) -> int:
        """Return the sum of a cell's buckets."""
        return sum(counts.get(number, 0) for number in self.buckets(cell))

    def ticks(self) -> list[float]:
        """Return about ten round times."""
        span = self.end - self.start
        step = next(s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1e9) if span / s <= 16)
        first = math.ceil(self.start / step)
        return [number * step for number in range(first, int(self.end / step) + 1)]
