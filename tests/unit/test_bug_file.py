"""The section `bug` of a scenario: its sides, what they expect, and mistakes in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.bug_specs import Bug
from harness.environments.pins import Pin
from harness.errors import UserError
from harness.expectation import Expectation
from harness.options import RunOptions
from harness.scenario import Scenario, load_scenario
from harness.verdict import Verdict

BUG: dict[str, Any] = {
    "symptom": "one worker of eight is deaf",
    "sources": ["redis/redis-py#4098", "https://example.org/thread"],
    "fails": [
        {"target": "stock", "with": {"redis": "8.0.0"}},
        {"target": "stock", "environment": {"LIMIT": "1"}, "set": {"workers": 2}},
    ],
    "passes": [{"target": "stock"}],
    "guarantees": ["canaries-delivered"],
    "also_red": ["deaf-time"],
}
SCENARIO = {
    "name": "deaf",
    "story": "A scenario of the tests of bugs. If this fails, they are wrong.",
    "topology": "standalone",
    "target": "stock",
    "bug": BUG,
}


def _scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate({**SCENARIO, **changes})


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        (RunOptions(), "pass"),
        (RunOptions(target="runtime"), "pass"),
        (RunOptions(pins=(Pin("redis", "8.0.0"),)), "fail"),
        (RunOptions(pins=(Pin("redis", "8.0.1"),)), "pass"),
        (RunOptions(workers=2), "pass"),  # only half of the second side
        (RunOptions(overrides={"workers": 2, "environment.LIMIT": "1"}), "fail"),
    ],
)
def test_a_run_expects_what_its_side_says(options: RunOptions, verdict: str) -> None:
    """The target, versions, variables and settings of a failing side make it expected to fail."""
    assert options.apply(_scenario()).expected is Verdict(verdict)


def test_an_expectation_of_the_command_line_wins() -> None:
    """`--set expected=…` is the user's word."""
    options = RunOptions(pins=(Pin("redis", "8.0.0"),), overrides={"expected": "unknown"})
    assert options.apply(_scenario()).expected is Verdict.UNKNOWN


def test_the_options_of_a_side_make_a_run_of_that_side() -> None:
    """Every side is found again from its own options, also in a plan that was saved."""
    scenario = _scenario()
    assert scenario.bug is not None
    for side in scenario.bug.sides:
        options = RunOptions(target=side.target, pins=side.pins, overrides=side.overrides)
        done = replace(options).apply(scenario)
        assert done.bug is not None
        assert done.bug.side_of(done.model_dump(mode="json"), side.pins) == side
        assert Scenario.model_validate(done.model_dump(mode="json")) == done


def test_the_runtime_is_a_passing_side_unless_told_why_not() -> None:
    """It need not be written; to leave it out needs a reason."""
    assert [side.label for side in Bug(**BUG).passing] == ["stock", "runtime"]
    without = Bug(**{**BUG, "runtime": False, "why": "it has no such route"})
    assert [side.label for side in without.passing] == ["stock"]
    with pytest.raises(ValueError, match="why"):
        Bug(**{**BUG, "runtime": False})


def test_a_side_is_called_by_all_that_makes_it() -> None:
    """The label tells sides apart, and a bug is found by each of its numbers."""
    labels = [side.label for side in Bug(**BUG).fails]
    assert labels == ["stock, redis 8.0.0", "stock, LIMIT=1, workers=2"]
    assert {"4098", "redis-py#4098", "redis/redis-py#4098"} <= set(Bug(**BUG).references())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"guarantees": ["canary-delivered"]}, "did you mean `canaries-delivered`?"),
        ({"fails": [{"target": "stok"}]}, "did you mean `stock`?"),
        ({"fails": [{"target": "stock", "wit": {}}]}, "unknown key; did you mean `with`?"),
        ({"fails": [{"target": "stock", "with": {"redis": "x"}}]}, "'x' is no version"),
        (
            {"fails": [{"target": "stock", "set": {"worker": 2}}]},
            "did you mean `workers`? known here",
        ),
        ({"fails": [{"target": "stock"}]}, "the side `stock` is there twice"),
        ({"sources": ["4098"]}, "expected OWNER/REPOSITORY#NUMBER or an https URL"),
    ],
)
def test_mistakes_name_the_line_and_what_was_probably_meant(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """As everywhere in the file."""
    path = tmp_path / "deaf.yaml"
    path.write_text(yaml.safe_dump({**SCENARIO, "bug": {**BUG, **change}}, sort_keys=False))
    with pytest.raises(UserError, match=r"deaf\.yaml:\d+: bug") as caught:
        load_scenario(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("scenario", "red", "said"),
    [
        ({"expected": "fail"}, ["recovery"], ""),
        ({"expected": "fail", "expected_red": ["recovery"]}, ["recovery"], ""),
        (
            {"expected": "fail", "expected_red": ["recovery"]},
            ["deaf-time"],
            "but are not: recovery",
        ),
        ({"expected": "fail", "expected_red": ["recovery"]}, ["recovery", "a"], "beside those"),
        ({"expected": "fail", "bug": BUG}, ["canaries-delivered", "deaf-time"], ""),
        ({"expected": "fail", "bug": BUG}, ["deaf-time"], "expected one of these"),
        ({"expected": "fail", "bug": BUG}, ["canaries-delivered", "recovery"], "recovery"),
        ({"expected": "pass", "bug": BUG}, ["recovery"], ""),
    ],
)
def test_red_is_as_expected_only_where_it_was_named(
    scenario: dict[str, Any], red: list[str], said: str
) -> None:
    """A scenario that turns red for another reason than its own has shown nothing."""
    surprise = Expectation.of(scenario).surprise(Verdict.FAIL, red)
    assert said in surprise
    assert bool(said) == bool(surprise)


def test_what_is_expected_to_be_red_must_be_judged() -> None:
    """A guarantee that is not selected can never be red."""
    with pytest.raises(ValueError, match="not among `guarantees`: canaries-delivered"):
        _scenario(guarantees=["recovery"])
    with pytest.raises(ValueError, match="goes with `expected: fail`"):
        _scenario(bug=None, expected_red=["recovery"])
