"""Bugs are found, counted and listed; no run can be lost."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from harness import commands
from harness.bugs import record, tables
from harness.bugs.find import KnownBug, find_bug, known_bugs
from harness.bugs.record import Outcome, Tally
from harness.bugs.reproduce import Case, cases, code_of_bug, code_of_side, sum_up
from harness.catalogue import APART, NEGATIVE, SCENARIOS, find_scenario, scenario_files
from harness.errors import UserError
from harness.pages import write_between
from harness.scenario import load_scenario
from harness.verdict import ExitCode

ROOT = Path(__file__).parents[2]
SLUG = "pubsub-idle-timeout-loop"


def _outcome(**changes: Any) -> Outcome:
    facts: dict[str, Any] = {
        "bug": SLUG,
        "side": "runtime",
        "expected": "pass",
        "content": "c0ffee",
        "commit": "abc",
        "date": "2026-11-21T15:00:00+00:00",
        "seed": 7,
        "verdict": "pass",
    }
    return Outcome(**{**facts, **changes})


@pytest.mark.parametrize(
    "name",
    [
        SLUG,
        f"regressions/{SLUG}",
        "4098",
        "#4098",
        "redis-py#4098",
        "redis/redis-py#4098",
        "https://github.com/redis/redis-py/issues/4098",
    ],
)
def test_a_bug_is_found_by_slug_and_by_what_it_cites(name: str) -> None:
    """People know a bug by one of these."""
    assert find_bug(name).slug == SLUG


def test_a_wrong_slug_is_answered_with_the_nearest() -> None:
    """A misspelt bug is a user's mistake."""
    with pytest.raises(UserError, match=f"did you mean `{SLUG}`"):
        find_bug("pubsub-idle-timeout")
    with pytest.raises(UserError, match="no such bug `99999999`; expected an issue"):
        find_bug("99999999")


def test_groups_of_scenarios_are_apart() -> None:
    """Regressions and negative controls do not run unless they are asked for."""
    assert "baseline-standalone" in scenario_files(SCENARIOS)
    assert SLUG in scenario_files("regressions")
    assert not set(scenario_files(SCENARIOS)) & {n for g in APART for n in scenario_files(g)}
    assert find_scenario(f"regressions/{SLUG}") == find_scenario(SLUG)
    with pytest.raises(UserError, match="no such scenario `negative/pubsub"):
        find_scenario(f"negative/{SLUG}")


def test_the_list_of_scenarios_shows_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """`harness list` tells the three kinds apart."""
    assert commands.list_scenarios() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(":")] == [f"{g}:" for g in (SCENARIOS, *APART)]


def test_what_decides_a_run_makes_another_content_and_words_do_not() -> None:
    """Counts go on when a sentence is mended, and begin anew when the load changes."""
    bug = find_bug(SLUG)

    def changed(**changes: Any) -> str:
        scenario = bug.scenario.model_copy(update=changes)
        assert scenario.bug is not None
        return KnownBug(bug.path, scenario, scenario.bug).content

    assert changed(story="Another story, with the same load.") == bug.content
    assert changed(bug=bug.bug.model_copy(update={"symptom": "other words"})) == bug.content
    assert changed(duration_s=61.0) != bug.content
    assert changed(bug=bug.bug.model_copy(update={"also_red": ("recovery",)})) != bug.content


def test_runs_are_counted_per_side_commit_and_content(tmp_path: Path) -> None:
    """The sum is over commits; another content begins anew, and the old stays in the file."""
    for outcome in (
        _outcome(),
        _outcome(commit="def"),
        _outcome(content="other", verdict="fail"),
        _outcome(side="stock", expected="fail", verdict="fail", red=("recovery",)),
    ):
        record.add(tmp_path, outcome)
    entries = record.read(tmp_path)
    assert len(entries) == 4
    counts = record.tally(entries, SLUG, "runtime", "c0ffee")
    assert (counts.runs, counts.green, counts.red) == (2, 2, 0)
    assert record.tally(entries, SLUG, "stock", "c0ffee").last_red.startswith("2026")


def test_a_red_run_where_green_was_expected_stays_and_is_shown(tmp_path: Path) -> None:
    """One bad run among good ones is written down with its seed, and stands in the table."""
    for verdict in ("pass", "fail", "pass"):
        red = ("recovery",) if verdict == "fail" else ()
        record.add(tmp_path, _outcome(verdict=verdict, red=red))
    (entry,) = record.read(tmp_path)
    assert [(a["seed"], a["red"]) for a in entry.against] == [(7, ["recovery"])]
    counts = record.tally([entry], SLUG, "runtime", "c0ffee")
    assert tables.rate("pass", counts) == "green 2 of 3, **red 1**"


def _add_many(reports: str) -> None:
    for number in range(25):
        record.add(Path(reports), _outcome(seed=number))


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """The lock holds between reading and replacing the file."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_add_many, args=(str(tmp_path),)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert record.read(tmp_path)[0].runs == 75


@pytest.mark.parametrize(
    ("expected", "counts", "code"),
    [
        ("fail", Tally(runs=5, red=4, green=1), 0),
        ("fail", Tally(runs=5, red=5, astray=2), 1),
        ("fail", Tally(runs=5, red=3, green=2), 1),
        ("fail", Tally(runs=5, red=3, unknown=2), 2),
        ("pass", Tally(runs=5, green=5), 0),
        ("pass", Tally(runs=5, green=4, red=1), 1),
        ("pass", Tally(runs=5, green=4, unknown=1), 2),
        ("pass", Tally(), 2),
    ],
)
def test_counts_prove_what_they_can(expected: str, counts: Tally, code: int) -> None:
    """80 % of a failing side, all of a passing one; an unknown run is no proof of either."""
    assert code_of_side(expected, counts) == code


def test_a_side_that_cannot_run_here_is_told_by_the_exit_code() -> None:
    """4 only where the sides that ran were as they should be."""
    assert code_of_bug([ExitCode.AS_EXPECTED], 1) is ExitCode.MISSING_PART
    assert code_of_bug([ExitCode.NOT_AS_EXPECTED], 1) is ExitCode.NOT_AS_EXPECTED
    assert code_of_bug([ExitCode.AS_EXPECTED], 0) is ExitCode.AS_EXPECTED


def test_sides_are_chosen_and_summed_up() -> None:
    """`--side` leaves the others out; runs of one side are counted by verdict."""
    bug = find_bug(SLUG)
    assert {case.expected for case in cases(bug, "fails")} == {"fail"}
    assert "runtime" in {case.side.label for case in cases(bug, "passes")}
    assert all(isinstance(case, Case) for case in cases(bug))
    outcomes = [_outcome(), _outcome(verdict="unknown"), _outcome(verdict="fail", astray=True)]
    assert sum_up(outcomes) == Tally(runs=3, green=1, unknown=1, red=1, astray=1)


def test_the_list_of_bugs_is_what_the_scenarios_and_the_catalogue_say() -> None:
    """Every entry has its scenario or a reason, every scenario its row.

    Red? `harness catalogue --repeat 0` writes the list anew.
    """
    page = (ROOT / "docs/bugs.md").read_text(encoding="utf-8")
    text = tables.list_table(list(known_bugs()))
    assert f"{tables.LIST_MARKS[0]}\n{text}\n{tables.LIST_MARKS[1]}" in page
    known = tables.catalogue()
    assert len({entry.slug for entry in known}) == len(known) >= 45


def test_the_readme_names_no_bug_that_is_gone() -> None:
    """The track record is of scenarios that exist."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    table = page.partition(tables.RECORD_MARKS[0])[2].partition(tables.RECORD_MARKS[1])[0]
    slugs = {line.partition("](")[0][3:] for line in table.splitlines() if line.startswith("| [")}
    assert slugs <= {bug.slug for bug in known_bugs()}


@pytest.mark.parametrize("name", scenario_files(NEGATIVE))
def test_a_negative_control_names_exactly_what_must_be_red(name: str) -> None:
    """And the page of bugs has a row for it."""
    scenario = load_scenario(scenario_files(NEGATIVE)[name])
    assert scenario.expected == "fail"
    assert scenario.expected_red
    link = f"| [{name}](../scenarios/negative/{name}.yaml) |"
    assert link in (ROOT / "docs/bugs.md").read_text(encoding="utf-8")


def test_writing_between_marks_leaves_the_rest(tmp_path: Path) -> None:
    """Only what is between the marks changes; a page without them is a mistake."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bugs -->\nold\n<!-- end of bugs -->\nafter\n")
    assert write_between(page, tables.LIST_MARKS, "new")
    assert page.read_text() == "before\n<!-- bugs -->\nnew\n<!-- end of bugs -->\nafter\n"
    assert not write_between(page, tables.LIST_MARKS, "new")
    with pytest.raises(UserError, match="expected the marks"):
        write_between(page, tables.RECORD_MARKS, "new")
