"""What `harness matrix` and `harness bisect` do: one scenario, many versions, one plan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import commands
from harness.catalogue import find_scenario
from harness.environments.index import between
from harness.environments.pins import Axis, Pin, normal, parse_axes, parse_axis
from harness.options import load_with_options
from harness.pages import markdown_table
from harness.verdict import ExitCode, Verdict, worst_exit
from harness.versions import Cell, cells, first_bad, red

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.options import RunOptions, RunResult

Row = tuple[Cell, "RunResult"]


def matrix(
    scenario: str, packages: Sequence[str], targets: Sequence[str], choices: dict[str, Any]
) -> int:
    """Run every combination, print the table and save it as matrix-….md; return the worst code."""
    axes = parse_axes(packages)
    chosen = commands.options(**choices)
    plan = cells(_each_target(targets), axes)
    for cell in plan:  # a mistake in the last must not cost the runs before it
        load_with_options(find_scenario(scenario), cell.options(chosen))
    console = commands.make_console()
    commands.end_on_sigterm()
    rows: list[Row] = []
    for cell in plan:
        rows.append((cell, _run(scenario, cell.options(chosen), " ".join(cell.words))))
        _say(console, " ".join(cell.words), rows[-1][1])
    console.print(_table(axes, bool(targets), rows))
    saved = chosen.reports / f"matrix-{time.strftime('%Y-%m-%dT%H-%M-%S')}.md"
    saved.write_text(_markdown(scenario, chosen.seed, axes, bool(targets), rows), encoding="utf-8")
    console.print(f"Table: {saved}", markup=False, soft_wrap=True)
    return worst_exit(result.exit_code for _, result in rows if not result.skipped)


def bisect(scenario: str, package: str, good: str, bad: str, choices: dict[str, Any]) -> int:
    """Find the first bad release between two; print it."""
    chosen = commands.options(**choices)
    versions = between(package, good, bad)
    console = commands.make_console()
    commands.end_on_sigterm()
    console.print(f"{len(versions)} releases: {', '.join(versions)}", markup=False)

    def judge(version: str) -> Verdict | None:
        cell = Cell(chosen.target, (Pin(normal(package), version),))
        result = _run(scenario, cell.options(chosen), version)
        _say(console, f"{package} {version}", result)
        return result.judgement.verdict if result.judgement else None

    last_good, first = first_bad(versions, judge)
    console.print(f"{package} {first} is the first bad release; {last_good} is still good.")
    return ExitCode.AS_EXPECTED


def _each_target(targets: Sequence[str]) -> list[str]:
    """Return one name per version: `open-webui==0.12.3,0.12.4` is two targets."""
    found = []
    for target in targets:
        if "=" in target:
            found += [str(pin) for pin in parse_axis(target, "--target").pins]
        else:
            found.append(target)
    return found


def _run(scenario: str, chosen: RunOptions, title: str) -> RunResult:
    return commands.run_one(find_scenario(scenario), title, chosen, quiet=False)


def _say(console: Console, title: str, result: RunResult) -> None:
    report = f"  {result.run.root}" if result.run else ""
    line = f"{title}: {_verdict(result)} {', '.join(red(result))}{report}"
    console.print(line, markup=False, soft_wrap=True)


def _verdict(result: RunResult) -> str:
    if result.skipped:
        return f"skipped: {result.skipped}"
    if result.judgement is None:
        return "no verdict"
    said = f"{result.judgement.verdict}"
    expected = result.exit_code == ExitCode.AS_EXPECTED
    return said if expected else f"{said} (expected {result.judgement.expected})"


def _header(axes: Sequence[Axis], targets: bool) -> list[str]:
    names = [axis.name for axis in axes]
    return [*(["target"] if targets else []), *names, "verdict", "broken guarantees", "run"]


def _cells_of(row: Row) -> list[str]:
    cell, result = row
    run = result.run.root.name if result.run else ""
    return [*cell.words, _verdict(result), ", ".join(red(result)), run]


def _table(axes: Sequence[Axis], targets: bool, rows: Sequence[Row]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(*_header(axes, targets), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*_cells_of(row))
    return table


def _markdown(
    scenario: str, seed: int, axes: Sequence[Axis], targets: bool, rows: Sequence[Row]
) -> str:
    table = markdown_table(_header(axes, targets), map(_cells_of, rows))
    return "\n".join([f"# {scenario}, seed {seed}", "", *table, ""])
