"""A series of runs: what cannot start does not end it, and a budget that is used up does."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from harness.beside.__main__ import main as beside
from harness.cli import invoke
from harness.options import RunOptions, RunResult
from harness.pages import markdown_table
from harness.series import Job, chosen, perform
from harness.variants.__main__ import main as variants
from harness.verdict import ExitCode


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give signals back to pytest afterwards: a series takes them for Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def job(title: str, folder: Path) -> Job:
    """Return a run of a scenario that does not exist."""

    def keep(result: RunResult) -> str:
        raise AssertionError(f"{title} has shown nothing that could be recorded: {result}")

    return Job(title, "no-such-scenario", RunOptions(seed=1, reports=folder), keep)


def test_a_run_that_does_not_start_is_said_and_the_next_one_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not recorded, so that it is missing the next time."""
    perform([job("first", tmp_path), job("second", tmp_path)], float("inf"), quiet=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("first: did not start: ")
    assert "no-such-scenario" in second


def test_no_run_begins_after_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left is left for the next call."""
    perform([job("first", tmp_path)], time.monotonic(), quiet=True)
    assert capsys.readouterr().out == "The budget is used up; run again to go on.\n"


@pytest.mark.parametrize("command", [beside, variants])
def test_a_mistake_is_one_line_before_anything_is_run(
    command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with `harness` itself."""
    assert invoke(["--budget", "soon"], command) == ExitCode.USER_ERROR
    said = capsys.readouterr()
    assert said.err == "harness: --budget soon: expected a duration such as 10m, 90s or 1h30m\n"
    assert not said.out


def test_an_option_that_is_not_given_lets_everything_through() -> None:
    """Given, it names all that is let through."""
    assert chosen("a", ())
    assert chosen("a", ("b", "a"))
    assert not chosen("a", ("b",))


def test_a_table_has_a_row_for_each_entry() -> None:
    """None are no mistake: the header says what there would be."""
    assert markdown_table(["a", "b"], [["1", "2"]]) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
    assert markdown_table(["a"], []) == ["| a |", "|---|"]
