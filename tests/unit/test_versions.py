"""Versions as an axis: the grammar, the combinations, the search for the first bad one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.environments import index
from harness.environments.cache import made_once
from harness.environments.pins import Pin, combinations, parse_axes, single
from harness.errors import UserError
from harness.options import RunOptions
from harness.scenario import Scenario
from harness.targets.choose import make_subject
from harness.targets.stock import StockTarget
from harness.verdict import Verdict
from harness.versions import cells, first_bad

SCENARIO = Scenario.model_validate(
    {
        "name": "tiny",
        "story": "A scenario of the tests of versions.",
        "topology": "standalone",
        "bug": {
            "symptom": "something that was seen",
            "sources": ["redis/redis-py#4098"],
            "fails": [{"target": "runtime", "with": {"redis": "8.0.0"}}],
            "guarantees": ["canaries-delivered"],
        },
    }
)


def test_a_topology_that_the_target_lacks_is_skipped_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is installed; the reason names the target and what it runs on."""
    monkeypatch.setattr(StockTarget, "topologies", frozenset({"standalone"}))
    scenario = SCENARIO.model_copy(update={"target": "stock", "topology": "cluster"})
    subject = make_subject(scenario, RunOptions(seed=1), print)
    assert subject.unsuited == "target stock runs on standalone, not on cluster"


@pytest.mark.parametrize("text", ["redis==8.0.0", "redis=8.0.0", " Redis == 8.0.0"])
def test_one_or_two_signs_and_any_spelling_name_the_same_version(text: str) -> None:
    """The grammar forgives what people type."""
    assert single([text]) == (Pin("redis", "8.0.0"),)


@pytest.mark.parametrize("text", ["redis", "redis==", "==8", "redis==8.0,", "redis>=8", "a b=1"])
def test_what_is_no_version_is_answered_with_the_grammar(text: str) -> None:
    """A mistake names the option and shows an example."""
    with pytest.raises(UserError, match=r"--with .*NAME==VERSION"):
        single([text])


def test_one_run_has_one_version_of_each_package() -> None:
    """Several versions belong to `matrix`; a package named twice is a mistake everywhere."""
    with pytest.raises(UserError, match="harness matrix"):
        single(["redis=7.4.0,8.0.0"])
    with pytest.raises(UserError, match="named twice"):
        parse_axes(["redis=7.4.0", "redis=8.0.0"])


def test_every_combination_is_run_once_the_last_axis_fastest() -> None:
    """Two axes make a product."""
    found = [" ".join(map(str, c)) for c in combinations(parse_axes(["a=1,2", "b=3,4"]))]
    assert found == ["a==1 b==3", "a==1 b==4", "a==2 b==3", "a==2 b==4"]


def test_a_matrix_of_nothing_is_refused() -> None:
    """Without an axis there is nothing to compare; targets alone are one."""
    with pytest.raises(UserError, match="nothing to vary"):
        cells([], [])
    assert [cell.target for cell in cells(["runtime", "stock"], [])] == ["runtime", "stock"]


def test_the_scenario_says_what_it_expects_of_a_version() -> None:
    """The verdict for a version replaces `expected`; other versions keep it."""
    assert RunOptions(pins=single(["redis==8.0.0"])).apply(SCENARIO).expected is Verdict.FAIL
    assert RunOptions(pins=single(["redis==8.0.1"])).apply(SCENARIO).expected is Verdict.PASS


def test_the_printed_command_names_versions_and_target() -> None:
    """The command of a saved run tests the same thing again."""
    options = RunOptions(seed=1, target="stock", pins=single(["redis=8.0.0"]))
    assert options.command_line("tiny").endswith("--with redis==8.0.0 --target stock")
    assert options.apply(SCENARIO).target == "stock"


@given(st.integers(2, 60), st.data())
def test_the_first_bad_version_is_found_in_few_runs(count: int, data: st.DataObject) -> None:
    """Wherever the break lies, both its sides are named, and no version is run twice."""
    bad = data.draw(st.integers(1, count - 1))
    asked: list[str] = []

    def judge(version: str) -> Verdict:
        asked.append(version)
        return Verdict.FAIL if int(version) >= bad else Verdict.PASS

    versions = [str(number) for number in range(count)]
    assert first_bad(versions, judge) == (str(bad - 1), str(bad))
    assert len(asked) == len(set(asked)) <= 2 + count.bit_length()


def test_an_unclear_version_is_passed_over() -> None:
    """A version that cannot be judged does not decide anything."""
    verdicts = {"1": Verdict.PASS, "2": Verdict.UNKNOWN, "3": None, "4": Verdict.FAIL}
    assert first_bad(list(verdicts), verdicts.__getitem__) == ("1", "4")


@pytest.mark.parametrize(("first", "last"), [("fail", "fail"), ("pass", "pass")])
def test_ends_that_are_not_as_said_are_a_mistake(first: str, last: str) -> None:
    """Without a good and a bad end there is nothing between them to find."""
    verdicts = {"1": Verdict(first), "2": Verdict(last)}
    with pytest.raises(UserError, match=r"was to (pass|fail), but its verdict is"):
        first_bad(list(verdicts), verdicts.__getitem__)


def test_releases_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends are included; an unknown or reversed one is a mistake."""
    monkeypatch.setattr(index, "released", lambda _: ["7.4.0", "7.4.1", "8.0.0", "8.0.1"])
    assert index.between("redis", "7.4.0", "8.0.0") == ["7.4.0", "7.4.1", "8.0.0"]
    with pytest.raises(UserError, match="no such release"):
        index.between("redis", "7.3.9", "8.0.0")
    with pytest.raises(UserError, match="the older one"):
        index.between("redis", "8.0.0", "7.4.0")


def test_a_cached_folder_is_made_once_and_never_left_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed install leaves nothing; the next one starts anew, and a whole one is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []

    def broken(folder: Path) -> None:
        folder.mkdir()
        raise UserError("no such version")

    with pytest.raises(UserError):
        made_once("x", broken, said.append, "x")
    folder = made_once("x", Path.mkdir, said.append, "x")
    assert made_once("x", broken, said.append, "x") == folder
    assert said == ["installing x", "installing x"]
