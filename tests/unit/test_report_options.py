"""Changes of a scenario from the command line, and finding scenarios and runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from report_run import scenario, write_run

from harness import catalogue
from harness.changes import changed, parse_overrides
from harness.errors import UserError
from harness.options import RunOptions


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("load.users", 20, ("load", "users")),
        ("workers", 2, ("workers",)),
        ("bounds.deaf_time_s", 9.5, ("bounds", "deaf_time_s")),
        ("redis.config.maxclients", "99", ("redis", "config", "maxclients")),
        ("faults.0.for_s", 3, ("faults", 0, "for_s")),
    ],
)
def test_override_changes_one_key(key: str, value: Any, path: tuple[Any, ...]) -> None:
    """A dotted key names any value of the scenario, list items by number, and nothing else."""
    before, after = scenario(), changed(scenario(), {key: value})
    place: Any = after.model_dump(mode="json")
    for name in path:
        place = place[name]
    assert place == value
    assert changed(after, {}) == after != before


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("load.uesrs=3", "known here: chats, connections, idle_sockets, pollers, processes"),
        ("lode.users=3", "no such key"),
        ("faults.7.for_s=3", "known here: 0 … 0"),
        ("load.users=many", "--set load.users=many"),
        ("workers=0", "greater than or equal to 1"),
        ("faults.0.target=replica", "no such role"),
    ],
)
def test_wrong_override_is_explained(pair: str, words: str) -> None:
    """An override that does not fit names itself and what was expected."""
    with pytest.raises(UserError) as caught:
        changed(scenario(), parse_overrides((pair,)))
    assert words in str(caught.value)


def test_command_line_repeats_the_choices() -> None:
    """The printed command, parsed again, makes the same choices."""
    options = RunOptions(
        seed=5, users=9, overrides={"think_s": [1.0, 2.5], "name": "a b"}, target_command="x -y z"
    )
    words = shlex.split(options.command_line("tiny"))
    pairs = tuple(words[i + 1] for i, word in enumerate(words) if word == "--set")
    assert words[:5] == ["harness", "run", "tiny", "--seed", "5"]
    assert parse_overrides(pairs) == options.changes
    assert words[-2:] == ["--target-command", "x -y z"]


def test_scenarios_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are searched in `scenarios` of the current folder, sub-folders included."""
    (tmp_path / "scenarios" / "sub").mkdir(parents=True)
    (tmp_path / "scenarios" / "sub" / "deep.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert catalogue.find_scenario("deep") == Path("scenarios/sub/deep.yaml")


def test_runs_are_found_by_path_or_name(tmp_path: Path) -> None:
    """A saved run is named by its folder's path or by its name among the reports."""
    run = write_run(tmp_path / "one")
    assert catalogue.find_run(str(run.root), Path("nowhere")).root == run.root
    assert catalogue.find_run("one", tmp_path).root == run.root
    with pytest.raises(UserError, match="Saved runs: one"):
        catalogue.find_run("two", tmp_path)
