"""A comparison on the terminal: how it was measured, every metric, and the answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.compare.ratios import CONFIDENCE, THROUGHPUT, Ratio
from harness.compare.verdict import Change, Comparison
from harness.report.words import named, number
from harness.verdict import ExitCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.compare.baseline import Baseline

STYLES = {Change.WORSE: "bold red", Change.BETTER: "green", Change.SAME: "", Change.UNCLEAR: "dim"}
ANSWERS = {
    ExitCode.AS_EXPECTED: "✔ WITHIN THE GATE",
    ExitCode.NOT_AS_EXPECTED: "✖ BEYOND THE GATE",
    ExitCode.UNKNOWN: "? UNKNOWN, for a gate",
}


def print_comparison(console: Console, found: Comparison) -> None:
    """Print a comparison."""
    console.print(how(found), markup=False)
    if found.ratios.rows:
        console.print(_table(found))
    console.print(answer(found), markup=False)


def how(found: Comparison) -> str:
    """Return what was compared, and how far it can be trusted."""
    a, b, ratios = found.a, found.b, found.ratios
    said = f"{a.scenario}: A is {a.name} ({a.side}), B is {b.name} ({b.side}).\n"
    left = sum(bool(one.unusable) for side in (a, b) for one in side.rounds)
    lost = f" {left} unusable rounds are left out: {_reasons(a, b)}." if left else ""
    if ratios.unsteady:
        lost += " Left out, because the machine changed between their two runs: "
        lost += f"{ratios.unsteady} pair(s)."
    if ratios.paired:
        pairs = "pair" if ratios.rounds == 1 else "pairs"
        return f"{said}Measured in turns: {ratios.rounds} {pairs} of rounds.{lost}"
    return (
        f"{said}Measured at different times ({_when(a)} and {_when(b)}): the machine may have "
        f"changed meanwhile, so every interval is widened by {ratios.drift:.2f}x. "
        f"For a sharper answer measure both in turns: harness bench --against.{lost}"
    )


def answer(found: Comparison) -> str:
    """Return the answer in one sentence or two."""
    said = [ANSWERS[found.exit_code] + f" of {found.gate:g}x:"]
    said += [
        f"{change}: {named([_told(row) for row in rows])}."
        for change in (Change.WORSE, Change.BETTER)
        if (rows := found.of(change))
    ]
    if found.more_errors:
        said.append(f"worse: {found.more_errors}.")
    if len(said) == 1 and not found.blind:
        said.append("no change.")
    if found.blind:
        said.append(f"{found.blind}.")
    return " ".join(said)


def _told(row: Ratio) -> str:
    return f"{_name(row)} {row.ratio:.2f}x ({row.low:.2f} to {row.high:.2f})"


def _name(row: Ratio) -> str:
    op, what = row.metric
    return THROUGHPUT if what == THROUGHPUT else f"{op} {what}"


def _table(found: Comparison) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    interval = f"{CONFIDENCE:.0%} interval of all"
    for title in ("A", "B", "B ÷ A", interval):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for row in found.ratios.rows:
        change = found.change(row)
        sides = [f"{number(value)} {_unit(row)}".strip() for value in (row.a, row.b)]
        middle = (f"{row.ratio:.2f}x", f"{row.low:.2f} to {row.high:.2f}")
        table.add_row(_name(row), *sides, *middle, str(change), style=STYLES[change])
    return table


def _unit(row: Ratio) -> str:
    return "/s" if row.metric[1] == THROUGHPUT else "ms"


def _reasons(a: Baseline, b: Baseline) -> str:
    reasons = {one.unusable for side in (a, b) for one in side.rounds if one.unusable}
    return "; ".join(sorted(reasons))


def _when(side: Baseline) -> str:
    began = min(one.began for one in side.rounds)
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(began))
