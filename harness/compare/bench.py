"""Measures rounds: of one side, or of two in turns, so that what the machine does hits both."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checks.parts import unfit
from harness.compare.baseline import Baseline, load_of
from harness.compare.rounds import Round, RoundFold
from harness.compare.sides import Side
from harness.errors import MissingPart
from harness.history.reader import read_history
from harness.options import RunOptions, load_with_options

if TYPE_CHECKING:
    from harness.options import RunResult

Run = Callable[[str, RunOptions], "RunResult"]


class Bench:
    """Rounds of each side; `sides` by the name under which their baselines are saved.

    `run` runs the scenario with options under a title. Every round has a seed of its own, which
    the sides share, so that they get the same load.
    """

    def __init__(self, path: Path, sides: dict[str, Side], run: Run) -> None:
        self._run = run
        self._sides = sides
        self._scenarios = {
            name: load_with_options(path, side.options) for name, side in sides.items()
        }
        session = uuid.uuid4().hex[:12]
        self.baselines = {
            name: Baseline(name, one.name, sides[name].label, session, load_of(_dump(one)), ())
            for name, one in self._scenarios.items()
        }

    def measure(self, rounds: int) -> Iterator[tuple[str, Round]]:
        """Measure and yield (name, round), each added to its baseline; raise MissingPart."""
        for number, name in in_turns(list(self._sides), rounds):
            one = self._round(number, name, rounds)
            mine = self.baselines[name]
            self.baselines[name] = replace(mine, rounds=(*mine.rounds, one))
            yield name, one

    def _round(self, number: int, name: str, of: int) -> Round:
        side = self._sides[name]
        options = replace(side.options, seed=side.options.seed + number)
        began = time.time()
        result = self._run(f"{name}, round {number + 1} of {of}", options)
        if result.skipped:
            raise MissingPart(f"{side.label}: {result.skipped}")
        return round_of(number, began, result)


def in_turns(names: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield (round, name): A B, then B A, and so on, so that a steady drift cancels out."""
    for number in range(rounds):
        order = names if number % 2 == 0 else names[::-1]
        yield from ((number, name) for name in order)


def round_of(number: int, began: float, result: RunResult) -> Round:
    """Return what a run measured; unusable when the generator, not the target, set the pace."""
    if result.run is None or result.judgement is None:
        return Round(number, began, unusable="the run has no judgement")
    ill = unfit(result.judgement.findings)
    fields = RoundFold().feed(read_history(result.run.history)).finish()
    if not any(fields["answered"]):
        ill = ill or "no operation succeeded"
    return Round(number, began, result.run.root.name, **fields, unusable=ill)


def _dump(scenario: object) -> dict[str, object]:
    from harness.scenario import Scenario

    assert isinstance(scenario, Scenario)
    return scenario.model_dump(mode="json")
