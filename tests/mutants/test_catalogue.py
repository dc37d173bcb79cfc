"""The catalogue is sound, and what counts as caught is exact."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from harness.changes import parse_overrides
from harness.options import RunOptions, load_with_options
from harness.vocabulary import GUARANTEES
from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.caught import problems
from tests.mutants.running import ROOT

DEAF = Mutant(
    "deaf", "baseline-standalone", must=frozenset({"deaf-time"}), may=frozenset({"recovery"})
)


def summary(verdict: str = "fail", **verdicts: str) -> dict[str, Any]:
    """Return a summary with the given verdicts, by name with underscores."""
    findings = [
        {
            "name": name.replace("_", "-"),
            "verdict": found.removesuffix("!"),
            "applicable": not found.endswith("!"),
            "reason": "because",
        }
        for name, found in verdicts.items()
    ]
    return {"verdict": verdict, "findings": findings}


@pytest.mark.parametrize(
    "verdicts",
    [
        {"deaf_time": "fail", "recovery": "pass"},
        {"deaf_time": "fail", "recovery": "fail"},
        {"deaf_time": "fail", "loop_stall": "fail!"},
        {"deaf_time": "fail", "loop_stall": "unknown"},
    ],
)
def test_a_mutant_is_caught_when_its_guarantee_is_red(verdicts: dict[str, str]) -> None:
    """Also with one that may be red, one that does not apply, or one that is unknown."""
    assert problems(DEAF, summary(**verdicts), 1) == []


@pytest.mark.parametrize("verdict", ["pass", "unknown", "fail!"])
def test_a_guarantee_that_is_not_red_catches_nothing(verdict: str) -> None:
    """Unknown is not red, nor is a guarantee that does not apply, whatever else is red."""
    found = problems(DEAF, summary(deaf_time=verdict, recovery="fail"), 1)
    assert found == [f"deaf-time has to be red, was {verdict.removesuffix('!')}"]


def test_a_guarantee_that_was_not_judged_catches_nothing() -> None:
    """A run whose checks did not finish has no finding for it."""
    assert problems(DEAF, summary(recovery="fail"), 1) == [
        "deaf-time has to be red, was not judged"
    ]


def test_an_unrelated_red_guarantee_is_a_failure_with_its_reason() -> None:
    """Also when the mutant was caught."""
    found = problems(DEAF, summary(deaf_time="fail", loop_stall="fail"), 1)
    assert found == ["loop-stall is red although the defect does not explain it: because"]


def test_the_verdict_and_the_exit_code_have_to_say_fail() -> None:
    """A red guarantee behind a green exit code would go unnoticed."""
    found = problems(DEAF, summary("pass", deaf_time="fail"), 0)
    assert found == ["the verdict is pass, expected fail", "the exit code is 0, expected 1"]


def test_fast_mutants_exist() -> None:
    """`make test` shows that the harness can fail, at several guarantees."""
    assert len({mutant.must for mutant in MUTANTS if mutant.fast}) >= 3


@pytest.mark.parametrize("entry", MUTANTS, ids=lambda mutant: mutant.name)
def test_an_entry_names_what_exists(entry: Mutant) -> None:
    """Its guarantees, its scenario with its settings, and a module that says what it breaks."""
    assert entry.must
    assert not entry.must & entry.may
    assert entry.must | entry.may <= set(GUARANTEES)
    options = RunOptions(overrides=parse_overrides(entry.settings))
    load_with_options(ROOT / f"scenarios/{entry.scenario}.yaml", options)
    assert (importlib.import_module(entry.module).__doc__ or "").startswith("Mutant: ")
