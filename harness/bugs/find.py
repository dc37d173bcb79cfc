"""Which bugs there are: the scenarios with a section `bug`, found by slug or issue number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from harness.bug_specs import Bug, Side
from harness.catalogue import REGRESSIONS, scenario_files
from harness.errors import UserError, did_you_mean
from harness.options import RunOptions
from harness.plan import load_seconds
from harness.scenario import Scenario, load_scenario

AROUND_S = 20.0  # deploy, prepare, quiesce, teardown and judging of a run
WORDS = ("story", "tags")  # of a scenario: what may change without a run being another one
BUG_WORDS = ("symptom", "sources", "why")


@dataclass(frozen=True)
class KnownBug:
    """A regression scenario; its slug is the scenario's name."""

    path: Path
    scenario: Scenario
    bug: Bug

    @property
    def slug(self) -> str:
        """Return the bug's name."""
        return self.scenario.name

    @property
    def seconds(self) -> float:
        """Return about how long one run takes."""
        return load_seconds(self.scenario) + AROUND_S

    @property
    def content(self) -> str:
        """Return a hash of all that decides a run: neither words nor the layout of the file."""
        data = self.scenario.model_dump(mode="json", exclude_defaults=True, exclude=set(WORDS))
        for word in BUG_WORDS:
            data["bug"].pop(word, None)
        for side in (*data["bug"]["fails"], *data["bug"].get("passes", ())):
            side.pop("note", None)
        return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]

    def options(self, side: Side, common: RunOptions, seed: int) -> RunOptions:
        """Return the options that run one side of it."""
        return RunOptions(
            seed=seed,
            target=side.target,
            pins=side.pins,
            overrides={**common.overrides, **side.overrides},
            reports=common.reports,
            keep_data=common.keep_data,
        )


def known_bugs() -> Iterator[KnownBug]:
    """Yield every bug, sorted by slug; raise UserError for a scenario file with a mistake."""
    for name, path in scenario_files(REGRESSIONS).items():
        scenario = load_scenario(path)
        if scenario.bug is None:
            raise UserError(f"{path}: a regression scenario needs a section `bug`; {name} has none")
        yield KnownBug(path, scenario, scenario.bug)


def find_bug(name: str) -> KnownBug:
    """Return a bug by slug, issue number or URL; raise UserError naming the nearest."""
    bugs = list(known_bugs())
    slug = name.removeprefix(f"{REGRESSIONS}/").removesuffix(".yaml")
    wanted = name.lstrip("#")
    found = [b for b in bugs if b.slug == slug] or [
        b for b in bugs if wanted in b.bug.references() or wanted in _urls(b.bug)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        slugs = ", ".join(b.slug for b in found)
        raise UserError(f"{name}: several bugs cite it; name one of: {slugs}")
    hint = did_you_mean(slug, (b.slug for b in bugs))
    raise UserError(
        f"no such bug `{name}`; {hint}expected an issue number that a bug cites, or a name of "
        "scenarios/regressions, which `harness list` prints"
    )


def _urls(bug: Bug) -> Iterator[str]:
    for source in bug.sources:
        repository, sign, number = source.partition("#")
        if sign and "://" not in source:
            yield from (f"https://github.com/{repository}/{k}/{number}" for k in ("issues", "pull"))
