"""What a new user gets wrong: each mistake is answered by one message that says what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import yaml

from harness import cli
from harness.capacity.cpus import listed
from harness.errors import unwritable
from harness.verdict import ExitCode
from harness.yaml_text import explain, parse_yaml

SCENARIO = """name: tiny
story: Users would see nothing at all if this one failed. Truly.
topology: standalone
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is in a folder with one scenario and one text file."""
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "tiny.yaml").write_text(SCENARIO)
    (tmp_path / "notes.txt").write_text("no table, no YAML: `")
    monkeypatch.chdir(tmp_path)


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a mistake is answered with: exit code 3, a few lines, and nothing is left."""
    before = sorted(Path().rglob("*"))
    assert cli.invoke(arguments) == ExitCode.USER_ERROR
    assert sorted(Path().rglob("*")) == before
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "fault of the harness" not in said
    return said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"\xff\xfe\x00",
            "cannot read the scenario file: expected text in UTF-8, got the byte 0xff",
        ),
        (
            SCENARIO.encode() + b"name: b\n",
            "x.yaml:4: not valid YAML: the key `name` is given twice",
        ),
        (SCENARIO.encode() + b"load: {users: 1, users: 2}\n", "the key `users` is given twice"),
        (SCENARIO.encode() + b"faults: [{at: 1, kind: latenzy}]\n", "did you mean `latency`?"),
        (SCENARIO.encode() + b"faults: [{at: 1}]\n", "x.yaml:4: faults.0: no `kind`; known: kill"),
        (b"name: a\n  story: x: y\n", "x.yaml:2: not valid YAML: mapping values are not allowed"),
    ],
)
def test_a_wrong_scenario_file(
    capsys: pytest.CaptureFixture[str], content: bytes, expected: str
) -> None:
    """What cannot be read, or says something twice, is named with file and line."""
    Path("x.yaml").write_bytes(content)
    said = _said(capsys, "validate", "x.yaml")
    assert expected in said
    assert "<unicode string>" not in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run zzz", "no such scenario `zzz`; expected the path of a YAML file, or a name that"),
        ("run tyni", "no such scenario `tyni`; did you mean `tiny`? expected the path"),
        ("run scenarios/tyni", "no such scenario `scenarios/tyni`; did you mean `tiny`? expected"),
        ("run tiny --target runtim", "no such target `runtim`; did you mean `runtime`? known: "),
        ("run tiny --set load.usres=3", "no such key; did you mean `users`? known here: "),
        ("run tiny --set lod.users=3", "no such key; did you mean `load`? known here: "),
        (
            "run tiny --set name.x=1",
            "--set name.x=1: no such key; what stands there, 'tiny', has no",
        ),
        ("run tiny --set faults.0=1", "no such key; known here: none, the list is empty"),
        ("run tiny --set load.users=[3", "the value is not valid YAML: expected ',' or ']'"),
        ("run tiny --subnet 10.0.0", "--subnet 10.0.0: expected the first three numbers"),
        ("run tiny --bind 127.0.0.1", "--bind 127.0.0.1: is about load from other machines"),
        ("run tiny --expect-workers 2", "--expect-workers 2: is about load from other machines"),
        ("run tiny --max-rate 9", "--max-rate: where is the external deployment? Give --url"),
        ("run tiny --external notes.txt", "--external notes.txt:1: not valid YAML"),
        ("run tiny --reports notes.txt", "is a file"),
        ("capacity --fit absent.csv", "--fit absent.csv: cannot read it as text: No such file"),
        ("capacity --worker-cpus 0-4000", "these are: "),
        ("doctor --redis localhost", "--redis localhost: expected redis://"),
        ("doctor --env scenarios", "--env scenarios: this is a folder; expected lines of NAME"),
    ],
)
def test_a_wrong_flag(capsys: pytest.CaptureFixture[str], arguments: str, expected: str) -> None:
    """A wrong flag is answered before anything is made, and not with a list of everything."""
    said = _said(capsys, *arguments.split())
    assert expected in said
    assert len(said) < 500


@pytest.mark.parametrize("saved", ["{}", "[]", "7", '{"points": 3}'])
def test_a_sweep_without_its_choices_is_not_resumed(
    capsys: pytest.CaptureFixture[str], saved: str
) -> None:
    """Defaults would be measured into points of other choices."""
    Path("choices.json").write_text(saved)
    said = _said(capsys, "capacity", "--resume", ".")
    assert "--resume .: choices.json does not hold what the sweep was begun with" in said
    assert "begin a new sweep" in said
    assert said.count("\n") == 1


def test_keys_of_merged_mappings_are_not_given_twice() -> None:
    """`<<` may bring a key that the mapping has as well, and may stand twice."""
    text = "a: &a {k: 1}\nb: &b {<<: *a, k: 2}\nc: {<<: *a, <<: *b, k: 3}"
    assert parse_yaml(text)["c"] == {"k": 3}


def test_an_error_without_a_place_is_one_line() -> None:
    """What YAML says without a mark is said as it is."""
    assert explain(yaml.YAMLError("two\nlines")) == "two lines"


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "`--reports` names another"),
        (errno.ENOTDIR, "`--reports` names another"),
        (errno.EACCES, "See whose it is"),
    ],
)
def test_a_full_or_forbidden_folder(code: int, advice: str) -> None:
    """A machine that takes no files is no fault of the harness: the message names file and way."""
    said = unwritable(OSError(code, os.strerror(code), "reports/x"))
    assert said is not None
    assert said.startswith(f"reports/x: {os.strerror(code)}. ")
    assert advice in said


def test_other_errors_of_the_system_stay_faults() -> None:
    """A file that the harness itself misses, or a connection, is not blamed on the user."""
    assert unwritable(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert unwritable(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None


def test_neighbouring_processors_are_a_range() -> None:
    """A machine with many processors does not fill the screen."""
    assert listed((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    assert listed((3,)) == "3"
    assert listed(()) == ""
