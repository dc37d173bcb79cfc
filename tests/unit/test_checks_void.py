"""A part of the harness that ended by itself voids the run; one that a fault ended does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checks.judge import Judgement
from harness.checks.parts import HarnessAlive, unfit, void, voids
from harness.compare.bench import round_of
from harness.deploy.folder import RunFolder
from harness.options import RunResult
from harness.report.words import code_of, headline
from harness.verdict import ExitCode, Verdict
from tests.unit.histories import COLLECT, History, healthy

BLAMELESS = "; what broke afterwards is not the app's doing"


def _exit(h: History, t: float, name: str, status: int, expected: bool = False) -> History:
    return h.add("exit", t, name=name, pid=9, status=status, expected=expected)


def _broken(**scenario: object) -> History:
    """Return a history in which two guarantees are red: an operation failed, a worker died."""
    h = healthy(**scenario)
    h.op("me", 30, outcome="fail", token="u0")
    return _exit(h, 31, "app-1", -11)


def _of(judgement: Judgement, verdict: Verdict) -> set[str]:
    return {f.name for f in judgement.findings if f.applicable and f.verdict is verdict}


@pytest.mark.parametrize(
    ("name", "status", "t", "said"),
    [
        ("toxiproxy", 2, 12.3, "toxiproxy ended by itself with status 2 at 12.3 s"),
        ("toxiproxy", 2, 33, "toxiproxy ended by itself with status 2 at 33.0 s"),
        ("provider", -9, -2.5, "provider ended by itself with status -9 2.5 s before the load"),
        ("balancer", 1, 20, "balancer ended by itself with status 1 at 20.0 s"),
        ("load-0", -11, 20, "load-0 ended by itself with status -11 at 20.0 s"),
        ("load-master", 1, 20, "load-master ended by itself with status 1 at 20.0 s"),
    ],
)
def test_nothing_is_red_when_a_part_of_the_harness_ended(
    name: str, status: int, t: float, said: str, tmp_path: Path
) -> None:
    """What was red is unknown, says why, and keeps what it had counted."""
    before = {f.name: f for f in _broken().judge(tmp_path / "a").findings}
    judgement = _exit(_broken(), t, name, status).judge(tmp_path / "b")
    assert judgement.verdict is Verdict.UNKNOWN
    assert _of(judgement, Verdict.UNKNOWN) == {"harness-alive", "recovery", "workers-alive"}
    found = {f.name: f for f in judgement.findings}
    assert found["harness-alive"].reason == said + BLAMELESS
    for red in ("recovery", "workers-alive"):
        assert found[red].reason == f"{said}{BLAMELESS}. It was red: {before[red].reason}"
        assert found[red].examples == before[red].examples != []
        assert found[red].quantities == before[red].quantities


def test_a_run_in_which_nothing_broke_is_void_too(tmp_path: Path) -> None:
    """Nobody knows what was not seen any more."""
    judgement = _exit(healthy(), 39, "provider", -9).judge(tmp_path)
    assert judgement.verdict is Verdict.UNKNOWN
    assert _of(judgement, Verdict.UNKNOWN) == {"harness-alive"}


@pytest.mark.parametrize(
    ("name", "t", "expected"),
    [("balancer", 12, True), ("load-0", 45, True), ("toxiproxy", COLLECT + 2, False)],
    ids=["a fault ended it", "its work was done", "in the teardown"],
)
def test_an_end_that_was_meant_voids_nothing(
    name: str, t: float, expected: bool, tmp_path: Path
) -> None:
    """Red stays red."""
    h = _broken().add("phase", COLLECT + 1, name="teardown")
    judgement = _exit(h, t, name, 0, expected).judge(tmp_path)
    assert _of(judgement, Verdict.FAIL) == {"recovery", "workers-alive"}


@pytest.mark.parametrize("name", ["app-1", "redis-0", "sentinel-2", "postgres", "neighbour-0"])
def test_what_is_under_test_is_red_when_it_ends(name: str, tmp_path: Path) -> None:
    """Workers, Redis and the database are not the harness's own."""
    judgement = _exit(healthy(), 12, name, -11).judge(tmp_path)
    assert _of(judgement, Verdict.FAIL) == {"workers-alive"}


def test_a_void_control_is_not_red_as_expected(tmp_path: Path) -> None:
    """A negative control of which the harness broke a part has shown nothing."""
    control = {"expected": "fail", "expected_red": ["recovery", "workers-alive"]}
    assert code_of(_broken(**control).judge(tmp_path / "a")) is ExitCode.AS_EXPECTED
    judgement = _exit(_broken(**control), 12, "toxiproxy", 2).judge(tmp_path / "b")
    assert code_of(judgement) is ExitCode.UNKNOWN
    assert judgement.outcome == "not_as_expected"


def test_figures_of_a_void_run_are_left_out(tmp_path: Path) -> None:
    """Capacity and comparisons ask why a run did not measure the target."""
    assert unfit(_broken().judge(tmp_path / "a").findings) == ""
    judgement = _exit(healthy(), 12, "toxiproxy", 2).judge(tmp_path / "b")
    assert unfit(judgement.findings).startswith("toxiproxy ended by itself")
    run = RunFolder(tmp_path / "b")
    result = RunResult(run, judgement, None, code_of(judgement))
    assert round_of(0, 0.0, result).unusable == unfit(judgement.findings)


def test_the_headline_names_the_part(tmp_path: Path) -> None:
    """Not the many guarantees that are unknown for it."""
    judgement = _exit(_broken(), 12.3, "toxiproxy", 2).judge(tmp_path)
    assert headline(judgement).startswith(
        "Void: toxiproxy ended by itself with status 2 at 12.3 s."
    )


def test_a_crash_of_the_check_voids_nothing() -> None:
    """Only an end that was seen does."""
    check = HarnessAlive()
    crashed = check.finding(Verdict.UNKNOWN, reason="check crashed: KeyError")
    red = check.finding(Verdict.FAIL, reason="red")
    void([crashed, red])
    assert red.verdict is Verdict.FAIL
    assert not voids(crashed)
