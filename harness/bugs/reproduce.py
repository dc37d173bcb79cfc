"""Runs sides of bugs, and says what the counts prove."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import psutil

from harness.bug_specs import Side
from harness.bugs.find import KnownBug
from harness.bugs.record import Outcome, Tally
from harness.checks.parts import voids
from harness.deploy.parts import missing_part
from harness.errors import MissingPart, UserError
from harness.options import RunOptions, RunResult, load_with_options
from harness.repeat import commit, now
from harness.targets.choose import make_subject
from harness.verdict import ExitCode
from harness.versions import red

RATE = 0.8  # of the runs of a failing side must be red
Run = Callable[[KnownBug, Side, RunOptions], RunResult]


@dataclass(frozen=True, eq=False)
class Case:
    """One side of one bug; `expected` is `fail` or `pass`. Its title tells it from others."""

    bug: KnownBug
    side: Side
    expected: str

    @property
    def title(self) -> str:
        """Return what it is called while it runs."""
        return f"{self.bug.slug} on {self.side.label}"


def cases(bug: KnownBug, which: str = "both") -> list[Case]:
    """Return the sides of a bug, the red ones first; `which` is fails, passes or both."""
    fails = [Case(bug, side, "fail") for side in bug.bug.fails if which != "passes"]
    return fails + [Case(bug, side, "pass") for side in bug.bug.passing if which != "fails"]


def unable(case: Case, common: RunOptions, say: Callable[[str], None]) -> str:
    """Install what a side needs; return why it cannot run here, empty when it can."""
    options = case.bug.options(case.side, common, common.seed)
    scenario = load_with_options(case.bug.path, options)
    try:
        return missing_part(scenario) or make_subject(scenario, options, say).unsuited
    except (UserError, MissingPart) as error:
        return str(error)


def attempt(case: Case, common: RunOptions, seed: int, run: Run) -> Outcome:
    """Run a side once; one that does not start has shown nothing and is unknown."""
    facts: dict[str, Any] = {"verdict": "unknown"}
    try:
        result = run(case.bug, case.side, case.bug.options(case.side, common, seed))
    except UserError as error:
        facts["reason"] = f"did not start: {error}"[:300]
    else:
        facts |= _facts(result)
    names = (case.bug.slug, case.side.label, case.expected, case.bug.content)
    return Outcome(*names, commit(), now(), seed, host=_host(), **facts)


def _facts(result: RunResult) -> dict[str, Any]:
    if result.judgement is None or result.run is None:
        return {"verdict": "unknown", "reason": result.skipped or "no verdict"}
    about = result.run.root / "run.json"
    versions = orjson.loads(about.read_bytes()).get("versions", {}) if about.exists() else {}
    unsure = [f"{f.name}: {f.reason}" for f in result.judgement.findings if f.verdict == "unknown"]
    return {
        "verdict": str(result.judgement.verdict),
        "red": tuple(red(result)),
        "astray": bool(result.judgement.surprise),
        "void": any(map(voids, result.judgement.findings)),
        "reason": result.judgement.surprise or "; ".join(unsure)[:300],
        "run": str(result.run.root),
        "versions": versions,
    }


def _host() -> dict[str, Any]:
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"cpus": os.cpu_count(), "memory_gib": memory, "machine": platform.machine()}


def sum_up(outcomes: Iterable[Outcome]) -> Tally:
    """Return the counts of the runs of one side."""
    runs = list(outcomes)
    verdicts = [outcome.verdict for outcome in runs]
    return Tally(
        runs=len(runs),
        red=verdicts.count("fail"),
        green=verdicts.count("pass"),
        unknown=verdicts.count("unknown"),
        astray=sum(outcome.astray for outcome in runs),
    )


def code_of_side(expected: str, counts: Tally) -> ExitCode:
    """Return what the counts of a side prove: 0 as it says, 1 otherwise, 2 not decided."""
    if not counts.runs:
        return ExitCode.UNKNOWN
    if expected == "pass":
        if counts.red:
            return ExitCode.NOT_AS_EXPECTED
        return ExitCode.UNKNOWN if counts.unknown else ExitCode.AS_EXPECTED
    if counts.caught >= RATE * counts.runs:
        return ExitCode.AS_EXPECTED
    possible = counts.caught + counts.unknown >= RATE * counts.runs
    return ExitCode.UNKNOWN if possible else ExitCode.NOT_AS_EXPECTED


def code_of_bug(codes: Iterable[ExitCode], unable_sides: int) -> ExitCode:
    """Return the worst: 1 beats 2, 2 beats 4 (a side that could not run here), 4 beats 0."""
    found = set(codes) | ({ExitCode.MISSING_PART} if unable_sides else set())
    order = (ExitCode.NOT_AS_EXPECTED, ExitCode.UNKNOWN, ExitCode.MISSING_PART)
    return next((code for code in order if code in found), ExitCode.AS_EXPECTED)
