"""A saved run as reports read it: plan.json and run.json, either of which may be incomplete."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from harness.report.series import Mark, Series, SeriesFold, origin_of, planned_steps
from harness.report.slowest import SlowestFold

if TYPE_CHECKING:
    from harness.checks.judge import Judgement
    from harness.deploy.folder import RunFolder


@dataclass(frozen=True)
class SavedRun:
    """What the run's own files say about it."""

    root: Path
    plan: dict[str, Any]
    run: dict[str, Any]

    @classmethod
    def read(cls, folder: RunFolder) -> SavedRun:
        """Read both files; a missing or cut one counts as empty, since a report must still come."""
        return cls(folder.root, _read(folder.plan), _read(folder.root / "run.json"))

    @property
    def scenario(self) -> dict[str, Any]:
        """Return the scenario as it was planned."""
        scenario: dict[str, Any] = self.plan.get("scenario") or {}
        return scenario

    @property
    def name(self) -> str:
        """Return the scenario's name."""
        return str(self.scenario.get("name") or self.run.get("scenario") or self.root.name)

    @property
    def story(self) -> str:
        """Return what a user would see if the scenario failed."""
        return str(self.scenario.get("story", "")).strip()

    @property
    def seed(self) -> int | None:
        """Return the seed of the plan."""
        seed = self.plan.get("seed", self.run.get("seed"))
        return int(seed) if seed is not None else None

    @property
    def rerun(self) -> str:
        """Return the command that runs the same plan again."""
        if command := self.run.get("command"):
            return str(command)
        return shlex.join(["harness", "run", self.name, "--seed", str(self.seed)])


def _read(path: Path) -> dict[str, Any]:
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return data if isinstance(data, dict) else {}


def fold(folder: RunFolder, judgement: Judgement) -> Series:
    """Read the history once and return what the report draws of it.

    Of a damaged history only what the reader yields before the damage is drawn; a note says so.
    """
    from harness.history.reader import HistoryError, read_history

    wanted = {
        name for f in judgement.findings for example in f.examples for name in example.operations
    }
    folding, slowest = SeriesFold(wanted=wanted), SlowestFold()
    try:
        folding.series.origin = origin_of(read_history(folder.history))
        for record in read_history(folder.history):
            folding.feed(record)
            slowest.feed(record)
    except HistoryError as error:
        series = folding.series
        series.notes.append(Mark(series.end, f"not drawn further: {error}", "error"))
    folding.series.slowest = slowest.finish(folding.series.origin)
    folding.series.planned = planned_steps(_read(folder.plan).get("timetable", ()))
    return folding.finish()
