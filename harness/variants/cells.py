"""What is to be run: the cells of the matrix, each a scenario on a host with a variant."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from harness.beside.cells import content_of
from harness.catalogue import find_scenario
from harness.options import RunOptions, load_with_options
from harness.plan import make_plan

FILE = Path(__file__).parent / "matrix.yaml"


@dataclass(frozen=True)
class Cell:
    """One scenario on a host, with a variant."""

    host: str
    scenario: str
    variant: str
    seed: int
    changes: dict[str, Any]

    def options(self, reports: Path) -> RunOptions:
        """Return the choices of its run."""
        return RunOptions(seed=self.seed, reports=reports, overrides=self.changes)

    @property
    def title(self) -> str:
        """Return what progress calls it."""
        return f"{self.scenario} on {self.host}, {self.variant}"

    @property
    def content(self) -> str:
        """Return a short name of what is done in it and to whom: other faults are another cell."""
        scenario = load_with_options(find_scenario(self.scenario), self.options(Path("reports")))
        plan = orjson.loads(make_plan(scenario, self.seed).to_json())
        fields = (self.host, self.scenario, content_of(plan), self.changes)
        text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=5).hexdigest()


@dataclass(frozen=True)
class Matrix:
    """The file: which page has the tables, and the cells in their order."""

    page: str
    variants: tuple[str, ...]
    cells: tuple[Cell, ...]


def read_matrix() -> Matrix:
    """Return what matrix.yaml says."""
    raw = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    cells = tuple(
        Cell(host, scenario, variant, raw["seed"], {**raw["size"], **changes, "host": host})
        for variant, changes in raw["variants"].items()
        for host, scenarios in raw["hosts"].items()
        for scenario in scenarios
    )
    return Matrix(raw["page"], tuple(raw["variants"]), cells)
