"""The CI job: what is selected, what a budget leaves out, and that a retry never makes green."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.ci.job import Entry, code_of_job, perform
from harness.ci.report import to_markdown, to_xml, worst_entry
from harness.ci.select import Chosen, Shard, parse_budget, parse_shard, select
from harness.cli import cli
from harness.errors import UserError
from harness.options import RunResult
from harness.scenario import Scenario
from harness.verdict import ExitCode

GREEN, RED, UNKNOWN = ExitCode.AS_EXPECTED, ExitCode.NOT_AS_EXPECTED, ExitCode.UNKNOWN


def chosen(name: str, *tags: str) -> Chosen:
    """Return a scenario of 22 s, so of about 42 s with what is around it."""
    story = "A scenario of the tests of the CI job."
    data = {"name": name, "story": story, "topology": "standalone", "tags": tags}
    return Chosen(Path(f"{name}.yaml"), Scenario.model_validate(data))


def job(*codes: ExitCode, budget: float | None = None, took: float = 42) -> list[Entry]:
    """Run `a`, `b`, … with the codes given, in order of the runs, on a clock of our own."""
    now, left = [0.0], list(codes)

    def run(_: Chosen) -> RunResult:
        now[0] += took
        return RunResult(None, None, None, left.pop(0))

    names = [chosen(name) for name in "abcdef"[: max(1, len(codes))]]
    entries = []
    for entry in perform(names, run, lambda: now[0], budget):
        entries.append(entry)
        if not left:
            break
    return entries


def test_tags_choose() -> None:
    """One of the tags is enough; no tag means all."""
    known = [chosen("b", "x"), chosen("a", "y"), chosen("c", "x", "z")]
    assert [c.scenario.name for c in select(known)] == ["a", "b", "c"]
    assert [c.scenario.name for c in select(known, ["x"])] == ["b", "c"]
    assert [c.scenario.name for c in select(known, ["y", "z"])] == ["a", "c"]
    with pytest.raises(UserError, match="no scenario has it; known tags: x, y, z"):
        select(known, ["failover"])


@given(st.integers(1, 30), st.integers(1, 8))
def test_every_scenario_is_in_exactly_one_shard(count: int, of: int) -> None:
    """Shards differ by at most one scenario and together are everything."""
    known = [chosen(f"s{number:02}") for number in range(count)]
    shards = [select(known, (), Shard(number, of)) for number in range(1, of + 1)]
    names = sorted(c.scenario.name for shard in shards for c in shard)
    assert names == [c.scenario.name for c in known]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_wrong_shard_is_explained(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(UserError, match="such as --shard 2/3"):
        parse_shard(text)


def test_budgets() -> None:
    """Minutes, seconds, hours, in sequence; anything else is explained."""
    assert [parse_budget(t) for t in ("10m", "90s", "1h30m")] == [600, 90, 5400]
    for wrong in ("10", "m", "-5m", "0s", "ten"):
        with pytest.raises(UserError, match="expected a duration such as 10m"):
            parse_budget(wrong)


def test_what_does_not_fit_the_budget_is_skipped_by_name() -> None:
    """The second would end at 84 s, after the budget of 60 s."""
    first, second = job(GREEN, GREEN, budget=60)[:2]
    assert (first.status, second.status) == ("passed", "skipped")
    assert "it takes about 42 s, and 18 s are left of the budget of 60 s" in second.skipped
    assert code_of_job([first, second]) == GREEN


@pytest.mark.parametrize(
    ("codes", "status", "code"),
    [
        ((GREEN,), "passed", GREEN),
        ((RED, GREEN), "flaky", UNKNOWN),
        ((RED, RED), "failed", RED),
        ((RED, UNKNOWN), "flaky", UNKNOWN),
        ((UNKNOWN,), "unknown", UNKNOWN),
    ],
)
def test_a_red_run_is_tried_once_more(
    codes: tuple[ExitCode, ...], status: str, code: ExitCode
) -> None:
    """Never green after red; nothing else is tried twice."""
    entry = job(*codes)[0]
    assert (len(entry.runs), entry.status, code_of_job([entry])) == (len(codes), status, code)


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_workflow_files_use_commands_that_exist(name: str) -> None:
    """The files are valid YAML and use the two commands of docs/ci.md only."""
    path = Path(__file__).parents[2] / "docs" / "ci" / name
    assert yaml.safe_load(path.read_text())
    text = path.read_text()
    assert "make setup\n" in text
    [options] = re.findall(r"harness ci (.*)", text)
    known = {option for p in cli.commands["ci"].params for option in p.opts}  # type: ignore[attr-defined]  # a group
    assert set(re.findall(r"--[a-z]+", options)) <= known


def test_a_job_in_which_nothing_ran_misses_a_part() -> None:
    """All skipped is exit code 4."""
    assert code_of_job([Entry(chosen("a"), skipped="no Redis")]) == ExitCode.MISSING_PART


def test_no_server_shows_a_flaky_or_failed_scenario_green(tmp_path: Path) -> None:
    """An error for the flaky one, a failure for the red one, skipped for the skipped one."""
    entries = [*job(RED, GREEN)[:1], *job(RED, RED)[:1], Entry(chosen("c"), skipped="no Redis")]
    xml = to_xml(entries).decode()
    assert xml.count("<error") == xml.count("<failure") == xml.count("<skipped") == 1
    text = to_markdown(tmp_path, entries, None)
    assert "1 failed, 1 flaky, 1 skipped (exit code 1)" in text
    assert worst_entry(entries) is entries[1]
