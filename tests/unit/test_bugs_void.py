"""A run of a bug's side that the harness itself broke is counted as unknown, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import commands, commands_bugs
from harness.bugs import record
from harness.deploy.folder import RunFolder
from harness.options import RunResult
from harness.report.words import code_of
from harness.verdict import ExitCode
from tests.unit.histories import healthy

SLUG = "session-pool-no-ttl"


def _result(folder: Path, void: bool) -> RunResult:
    """Return a run in which a worker died; with `void` after the proxy had."""
    h = healthy(expected="fail")
    h.add("exit", 20, name="app-1", status=-11, expected=False)
    if void:
        h.add("exit", 12, name="toxiproxy", status=2, expected=False)
    judgement = h.judge(folder)
    return RunResult(RunFolder(folder), judgement, None, code_of(judgement))


@pytest.mark.parametrize(
    ("voids", "code", "counted"),
    [
        ([True, False], ExitCode.AS_EXPECTED, {"red": 1, "unknown": 1}),
        ([True, True, False], ExitCode.UNKNOWN, {"red": 0, "unknown": 2}),
        ([False, True], ExitCode.AS_EXPECTED, {"red": 1, "unknown": 0}),
    ],
    ids=["void once", "void twice", "not void"],
)
def test_a_void_run_is_made_again_once(
    voids: list[bool],
    code: ExitCode,
    counted: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second decides; the track record has both."""
    results = [_result(tmp_path / str(n), void) for n, void in enumerate(voids)]
    monkeypatch.setattr(commands, "run_one", lambda *_: results.pop(0))
    monkeypatch.setattr(commands, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(commands_bugs, "unable", lambda *_: "")
    choices: dict[str, object] = {"seed": 1, "reports": tmp_path / "reports"}
    assert commands_bugs.reproduce(SLUG, 1, "fails", True, choices) == code
    [entry] = record.read(tmp_path / "reports")
    assert {name: getattr(entry, name) for name in counted} == counted
