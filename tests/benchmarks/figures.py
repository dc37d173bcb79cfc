"""Figures of a benchmark that are not its duration: ratios, rates, sizes, each with its target.

They are saved with the benchmark (`extra_info`), so the committed baselines hold them, and the
end of `make bench` shows them beside those of the newest baseline. Run as a module, this prints
the table of docs/benchmarks.md from the committed baselines.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

BASELINES = Path(__file__).resolve().parents[2] / "reports" / "baselines"
SHOWN: list[tuple[str, str, dict[str, Any]]] = []  # test, name, figure


class Figures:
    """Collects the figures of one test; `check` fails it when a target was missed."""

    def __init__(self, test: str, extra_info: dict[str, Any]) -> None:
        self._test = test
        self._extra_info = extra_info
        self._missed: list[str] = []

    def note(
        self,
        name: str,
        rounds: Sequence[float],
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Keep the median of the rounds of a figure; without a target it is for information."""
        value = statistics.median(rounds)
        target = "" if at_least is None else f">= {at_least:g}"
        target = target if at_most is None else f"<= {at_most:g}"
        figure = {
            "value": _short(value),
            "unit": unit,
            "target": target,
            "rounds": [_short(each) for each in rounds],
        }
        self._extra_info[name] = figure
        SHOWN.append((self._test, name, figure))
        low = at_least is not None and value < at_least
        if low or (at_most is not None and value > at_most):
            self._missed.append(f"{name}: {value:.4g} {unit}, wanted {target}; {figure['rounds']}")

    def check(self) -> None:
        """Fail with every target that was missed."""
        assert not self._missed, "; ".join(self._missed)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def newest_baseline() -> dict[str, dict[str, Any]]:
    """Return test → figures of the newest baseline that has the test."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(BASELINES.glob("*/*.json"), key=lambda path: path.name):
        for each in orjson.loads(path.read_bytes())["benchmarks"]:
            found[each["fullname"]] = each["extra_info"]
    return found


def table() -> list[str]:
    """Return the lines of the table: figure, value, target, and the value of the baseline."""
    before = newest_baseline()
    rows = [("figure", "now", "target", "baseline")]
    for test, name, figure in SHOWN:
        old = before.get(test, {}).get(name)
        now = f"{figure['value']:g} {figure['unit']}".strip()
        rows.append((name, now, figure["target"], f"{old['value']:g}" if old else "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def markdown() -> list[str]:
    """Return the rows of the page's table: the newest committed value of every figure."""
    rows = ["| figure | target | measured |", "|---|---|---|"]
    for extra in newest_baseline().values():
        for name, figure in extra.items():
            if isinstance(figure, dict) and "unit" in figure:
                value = f"{figure['value']:g} {figure['unit']}".rstrip()
                rows.append(f"| {name} | {figure['target']} | {value} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write("\n".join(markdown()) + "\n")
