"""What is to be run: every scenario on every target, with seeds that count from 1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from harness.catalogue import find_scenario
from harness.options import RunOptions, load_with_options
from harness.plan import make_plan

FILE = Path(__file__).parent / "plan.yaml"
Key = tuple[str, str, str, int]  # scenario, target, content of the plan, seed


@dataclass(frozen=True)
class Case:
    """One scenario at its size, on one target."""

    scenario: str
    target: str
    changes: dict[str, Any]

    def options(self, seed: int, reports: Path) -> RunOptions:
        """Return the choices of a run."""
        return RunOptions(seed=seed, target=self.target, reports=reports, overrides=self.changes)

    def key(self, seed: int) -> Key:
        """Return what a run of it is known by."""
        return self.scenario, self.target, self.content(seed), seed

    def content(self, seed: int) -> str:
        """Return a short name of what would be done with a seed, whatever the target."""
        options = self.options(seed, Path("reports"))
        scenario = load_with_options(find_scenario(self.scenario), options)
        return content_of(orjson.loads(make_plan(scenario, seed).to_json()))


@dataclass(frozen=True)
class Claim:
    """What was measured before, and where it shows here."""

    said: str
    scenario: str
    guarantee: str


@dataclass(frozen=True)
class Comparison:
    """The file: which page has the tables, the cases, the most telling first, and the claims."""

    page: str
    targets: tuple[str, ...]
    cases: tuple[Case, ...]
    claims: tuple[Claim, ...] = ()

    @property
    def scenarios(self) -> list[str]:
        """Return the scenarios in their order."""
        return list(dict.fromkeys(case.scenario for case in self.cases))


def read_comparison() -> Comparison:
    """Return what plan.yaml says."""
    raw = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    targets, scenarios = tuple(raw["targets"]), raw["scenarios"].items()
    cases = tuple(Case(name, each, changes) for name, changes in scenarios for each in targets)
    claims = tuple(Claim(claim["said"], *claim["shown"]) for claim in raw["claims"])
    return Comparison(raw["page"], targets, cases, claims)


def content_of(plan: dict[str, Any]) -> str:
    """Return a short name of a plan's steps and faults; runs of one name may be compared."""
    faults = [(f["id"], f["at"], f["until"], f["spec"]["kind"]) for f in plan["faults"]]
    scenario = plan["scenario"]
    kept = {name: scenario[name] for name in ("topology", "workers", "environment")}
    chats = scenario["load"]["chats"]
    fields = (faults, plan["focus"], plan["timetable"], plan["shape"], chats, kept)
    text = orjson.dumps(_plain(fields), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=5).hexdigest()


def _plain(value: Any) -> Any:
    """Return it with all numbers as floats: `2` in a file and `2.0` in a plan mean the same."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) else value


def missing(cases: Iterable[Case], repeat: int, done: set[Key]) -> Iterator[tuple[Case, int]]:
    """Yield case and seed of every run that `done` lacks, round by round."""
    listed = list(cases)
    for seed in range(1, repeat + 1):
        for case in listed:
            if case.key(seed) not in done:
                yield case, seed
