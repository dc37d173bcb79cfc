"""Scenario files: the ones that come with the project are valid; mistakes are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.changes import changed, parse_overrides
from harness.errors import UserError
from harness.scenario import load_scenario
from harness.yaml_text import parse_yaml

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").rglob("*.yaml"))
GOOD = "name: good\nstory: A scenario for the tests of the file format.\ntopology: standalone\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_of_the_project_is_valid(path: Path) -> None:
    """Each file loads, is named like its file, and tells what a user would see."""
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    assert "If this" in scenario.story
    assert scenario.enough


def _error(tmp_path: Path, text: str) -> str:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_scenario(path)
    return str(caught.value)


def test_an_unknown_key_names_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    """A misspelt key is an error with file, line and the key that was probably meant."""
    message = _error(tmp_path, GOOD + "workerz: 3\n")
    assert "file.yaml:4: workerz: unknown key; did you mean `workers`?" in message


def test_a_nested_unknown_key_is_looked_up_among_its_own_neighbours(tmp_path: Path) -> None:
    """Inside `load.chats` the nearest key comes from that part, not from the top."""
    message = _error(tmp_path, GOOD + "load:\n  users: 5\n  chats: {token: 3}\n")
    assert "file.yaml:6: load.chats.token: unknown key; did you mean `tokens`?" in message


def test_a_key_unknown_in_a_fault_is_looked_up_in_that_kind(tmp_path: Path) -> None:
    """The keys of a fault depend on its kind."""
    fault = "faults:\n  - {at: 1, kind: latency, latency: 5}\n"
    assert "did you mean `latency_ms`?" in _error(tmp_path, GOOD + fault)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """A file without a topology says so."""
    message = _error(tmp_path, "name: a\nstory: A scenario that lacks something.\n")
    assert "topology: Field required" in message


def test_yaml_that_does_not_parse_says_where(tmp_path: Path) -> None:
    """A syntax error names the file and the line."""
    message = _error(tmp_path, GOOD + "load: {users: 3\n")
    assert "not valid YAML" in message
    assert "file.yaml:5: " in message


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    """A wrong path points to `harness list`."""
    with pytest.raises(UserError, match="harness list"):
        load_scenario(tmp_path / "none.yaml")


def test_a_list_instead_of_a_mapping_is_refused(tmp_path: Path) -> None:
    """The top of the file must be a mapping."""
    assert "expected a mapping" in _error(tmp_path, "- a\n- b\n")


def test_the_longest_pause_is_not_shorter_than_the_first(tmp_path: Path) -> None:
    """Pauses that would shrink are refused, with both numbers."""
    message = _error(tmp_path, GOOD + "load:\n  reconnect: {first_s: 3}\n")
    assert "`longest_s` is 2 and `first_s` 3: expected a longest pause" in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("12", "12"),
        ("true", "true"),
        ("yes", "yes"),
        ("1.10", "1.10"),
        ("010", "010"),
        ("2026-01-31", "2026-01-31"),
        ("'5'", "5"),
        ("''", ""),
        ("~", None),
        ("null", None),
        ("'null'", "null"),
    ],
)
def test_a_variable_is_the_text_that_stands_there(
    tmp_path: Path, written: str, meant: str | None
) -> None:
    """In a file, in its neighbour, on a bug's side and after --set; only null is no text."""
    path = tmp_path / "file.yaml"
    parts = f"environment: {{X: {written}}}\nneighbour: {{environment: {{X: {written}}}}}\n"
    path.write_text(GOOD + parts)
    scenario = load_scenario(path)
    assert scenario.neighbour is not None
    assert scenario.environment == scenario.neighbour.environment == {"X": meant}
    for pair in (f"environment.Y={written}", f"environment={{Y: {written}}}"):
        assert changed(scenario, parse_overrides((pair,))).environment["Y"] == meant


def test_a_side_of_a_bug_takes_texts_as_well(tmp_path: Path) -> None:
    """Its variables, its versions, and what it sets."""
    path = tmp_path / "file.yaml"
    side = "{target: stock, with: {redis: 8.10}, environment: {X: 1}, set: {environment.Y: on}}"
    bug = f"{{symptom: Nothing works., sources: [a/b#1], guarantees: [deaf-time], fails: [{side}]}}"
    path.write_text(f"{GOOD}bug: {bug}\n")
    loaded = load_scenario(path).bug
    assert loaded is not None
    assert loaded.fails[0].packages == {"redis": "8.10"}
    assert loaded.fails[0].overrides == {"environment.X": "1", "environment.Y": "on"}


def test_settings_of_redis_are_texts(tmp_path: Path) -> None:
    """Redis knows `yes` and numbers, not what YAML makes of them."""
    path = tmp_path / "file.yaml"
    fault = "{kind: config, target: primary, at: 1, for_s: 1, settings: {maxclients: 20}}"
    path.write_text(f"{GOOD}redis: {{config: {{appendonly: yes}}}}\nfaults: [{fault}]\n")
    scenario = load_scenario(path)
    assert scenario.redis.config == {"appendonly": "yes"}
    assert scenario.faults[0].settings == {"maxclients": "20"}  # type: ignore[union-attr]  # of config


def test_a_text_inside_its_own_anchor_does_no_harm() -> None:
    """YAML may point to what it stands in; `<<` brings texts, too."""
    assert parse_yaml("environment: &e {X: 1}\nneighbour: {environment: {<<: *e, Y: 2}}") == {
        "environment": {"X": "1"},
        "neighbour": {"environment": {"X": "1", "Y": "2"}},
    }
    looped = parse_yaml("a: &a [1, *a]")
    assert looped["a"][1] is looped["a"]
