"""Small plots as SVG: points, lines and bars over two axes; colours are those of the reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.report.svg import bar, label, polyline, tag

WIDTH, HEIGHT = 620.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 34.0, 44.0
TICKS = 5
RADIUS = 4.0


@dataclass
class Plot:
    """A plot from (0, 0) to the given greatest values; drawn in the order of calls."""

    title: str
    x_label: str
    y_label: str
    x_most: float
    y_most: float
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x_most = nice(self.x_most)
        self.y_most = nice(self.y_most)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a value is, kept inside the plot."""
        across, up = min(x / self.x_most, 1.0), min(max(y / self.y_most, 0.0), 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    def line(self, values: Iterable[tuple[float, float]], class_: str) -> None:
        """Draw a line through values."""
        self.parts.append(polyline([self.at(x, y) for x, y in values], f"line {class_}"))

    def dot(self, x: float, y: float, class_: str, hint: str, hollow: bool = False) -> None:
        """Draw a measurement; a hollow one was not used."""
        left, top = self.at(x, y)
        shape = f"dot {class_}{' hollow' if hollow else ''}"
        title = tag("title", text=hint)
        self.parts.append(tag("circle", title, cx=left, cy=top, r=RADIUS, class_=shape))

    def column(self, x: float, width: float, y: float, class_: str, hint: str) -> None:
        """Draw a column around x with its value above it."""
        (left, top), (right, _) = self.at(x - width / 2, y), self.at(x + width / 2, y)
        floor = HEIGHT - BOTTOM
        self.parts.append(bar(left, top, right - left, floor - top, class_, hint))
        self.parts.append(label((left + right) / 2, top - 5, f"{y:.0f}", "tick", "middle"))

    def level(self, y: float, text: str) -> None:
        """Draw a bound across the plot."""
        left, top = self.at(0, y)
        right, _ = self.at(self.x_most, y)
        self.parts.append(tag("line", x1=left, x2=right, y1=top, y2=top, class_="bound"))
        self.parts.append(label(left + 4, top - 4, text, "bound-label"))

    def mark(self, x: float, class_: str) -> None:
        """Draw a vertical line at x: a knee."""
        left, top = self.at(x, self.y_most)
        down = HEIGHT - BOTTOM
        self.parts.append(tag("line", x1=left, x2=left, y1=top, y2=down, class_=f"knee {class_}"))

    def svg(self, x_ticks: Sequence[float] | None = None) -> str:
        """Return the picture; `x_ticks` replaces the round values below it."""
        across = x_ticks if x_ticks is not None else ticks(self.x_most)
        return tag(
            "svg",
            label(0, 14, self.title, "lane-title"),
            *self._axes(across),
            *self.parts,
            *self._legend(),
            viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
            role="img",
            aria_label=self.title,
        )

    def _axes(self, across: Sequence[float]) -> Iterable[str]:
        floor = HEIGHT - BOTTOM
        for value in ticks(self.y_most):
            left, top = self.at(0, value)
            yield tag("line", x1=left, x2=WIDTH - RIGHT, y1=top, y2=top, class_="rule")
            yield label(left - 6, top + 4, f"{value:g}", "tick", "end")
        for value in across:
            yield label(self.at(value, 0)[0], floor + 16, f"{value:g}", "tick", "middle")
        yield label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, self.x_label, "lane-hint", "middle")
        yield label(WIDTH - RIGHT, 14, self.y_label, "lane-hint", "end")

    def _legend(self) -> Iterable[str]:
        x = LEFT
        for class_, text in self.legend:
            yield tag("circle", cx=x + 4, cy=25, r=RADIUS, class_=f"dot {class_}")
            yield label(x + 13, 29, text, "tick")
            x += 26 + 5.7 * len(text)


def nice(most: float) -> float:
    """Return the next round value at or above, so that ticks are round as well."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 7.5, 10) if power * step >= most)


def ticks(most: float) -> list[float]:
    """Return round values from 0 to `most`."""
    return [most * place / TICKS for place in range(TICKS + 1)]
