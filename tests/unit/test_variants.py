"""The matrix of secured deployments: what is run, what is still missing, and its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.variants import record
from harness.variants.cells import Cell, read_matrix
from harness.variants.record import Run, missing
from harness.variants.table import tables


def run_of(cell: Cell, verdict: str, *red: str) -> Run:
    """Return a run of a cell."""
    place = (cell.host, cell.scenario, cell.variant, cell.content, cell.seed)
    return Run(*place, verdict, list(red), [], "abc1234", "2026-01-01T00:00:00+00:00")


def test_every_scenario_is_run_on_every_variant() -> None:
    """Four with processes, two with containers; each cell has a plan of its own."""
    matrix = read_matrix()
    assert len(matrix.cells) == (4 + 2) * len(matrix.variants)
    assert len({cell.content for cell in matrix.cells}) == len(matrix.cells)
    kinds = {(c.changes.get("redis.auth"), c.changes.get("redis.tls")) for c in matrix.cells}
    assert kinds >= {(None, None), ("password", None), ("acl", None), ("acl", "mutual")}
    assert (None, "server") in kinds


def test_a_cell_is_missing_until_a_run_proves_something() -> None:
    """A verdict that proves nothing is tried again, three times; another plan starts anew."""
    first, second = read_matrix().cells[:2]
    unknown = run_of(first, "unknown", "enough-load")
    assert list(missing([first, second], [])) == [first, second]
    assert list(missing([first], [unknown, unknown])) == [first]
    assert list(missing([first], [unknown] * 3)) == []
    assert list(missing([first, second], [run_of(first, "fail", "deaf-time")])) == [second]
    bigger = replace(first, changes={**first.changes, "load.users": 11})
    assert list(missing([bigger], [run_of(first, "pass")])) == [bigger]


def test_the_table_shows_every_run(tmp_path: Path) -> None:
    """Also the ones before the last, with what was not green in them, and what was left."""
    matrix = read_matrix()
    cell = matrix.cells[0]
    record.add(tmp_path, run_of(cell, "unknown", "enough-load"))
    record.add(tmp_path, replace(run_of(cell, "pass"), left_running=["process 1"]))
    text = tables(matrix, record.read(tmp_path))
    [row] = [line for line in text.splitlines() if f"| {cell.host} | [{cell.scenario}]" in line]
    assert row.split(" | ")[2] == "✔ 1, ? 1: enough-load"
    assert row.count("not run") == len(matrix.variants) - 1
    assert "2 runs; 1 of them left something running. Commits: `abc1234`." in text
