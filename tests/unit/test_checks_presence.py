"""Guests of a worker that was killed: one has to be looked for on another worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.verdict import Verdict
from tests.unit.histories import HEAL, KILL, History, healthy, visit

CAME = KILL - 1.9  # of a visit of 2 s: it ends just after the kill


def _killed_worker(**scenario: object) -> History:
    """Return a healthy history whose fault kills worker 0, with nobody on it."""
    h = healthy(**scenario)
    for record in h.records:
        if record["k"] == "fault":
            record.update(kind="worker-kill", workers=[0])
    return h


def _nobody(_: History) -> None:
    """No guest is on the worker: who comes and goes later proves nothing of the kill."""


def _on_the_other_worker(h: History) -> None:
    visit(h, "guest-1", CAME, worker=1, lost=True)


def _left_before(h: History) -> None:
    visit(h, "guest-1", CAME - 0.2)


def _never_shown(h: History) -> None:
    visit(h, "guest-1", CAME, lost=True)
    _forget(h, lambda r: r.get("guest") == "guest-1" and r["t"] == CAME + 1)


def _asked_the_killed_one_alone(h: History) -> None:
    visit(h, "guest-1", CAME, lost=True)
    _forget(h, lambda r: r.get("guest") == "guest-1" and r["worker"] == 1)


def _asked_too_early(h: History) -> None:
    """Look only while they may still be shown: the bound counts from the heal."""
    visit(h, "guest-1", CAME, online=99, in_use=99, lost=True)
    _forget(h, lambda r: r.get("guest") == "guest-1" and r["t"] > HEAL + 5)


def _forget(h: History, which: Callable[[dict[str, object]], bool]) -> None:
    """Take out whole operations by their invocation."""
    gone = {r["id"] for r in h.records if r["k"] == "invoke" and which(r)}
    assert gone
    h.records = [r for r in h.records if r.get("id") not in gone]


@pytest.mark.parametrize("name", ["nobody-lingers", "usage-ends"])
@pytest.mark.parametrize(
    "change",
    [
        _nobody,
        _on_the_other_worker,
        _left_before,
        _never_shown,
        _asked_the_killed_one_alone,
        _asked_too_early,
    ],
)
def test_a_kill_that_met_no_guest_proves_nothing(
    name: str, change: Callable[[History], None], tmp_path: Path
) -> None:
    """All others are gone, and that is not what a kill is about."""
    h = _killed_worker()
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert "killed" in finding.reason


@pytest.mark.parametrize("name", ["nobody-lingers", "usage-ends"])
@pytest.mark.parametrize(
    ("shown_s", "verdict"), [(4.5, Verdict.PASS), (99, Verdict.FAIL)], ids=["gone", "lingers"]
)
def test_a_guest_of_the_killed_worker_decides(
    name: str, shown_s: float, verdict: Verdict, tmp_path: Path
) -> None:
    """One who was shown there, and is looked for on the other worker until the bound is over."""
    h = _killed_worker(bounds={"presence_gone_s": 8})
    visit(h, "guest-1", CAME, online=shown_s, in_use=shown_s, lost=True)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == verdict
    assert finding.quantities["of_killed_workers"] == 1


def test_the_only_worker_is_asked_itself(tmp_path: Path) -> None:
    """There is no other one; when it is back it knows only what was kept elsewhere."""
    h = _killed_worker(workers=1)
    h.about["workers"] = 1
    visit(h, "guest-1", CAME, lost=True)
    _forget(h, lambda r: "guest" in r and r["worker"] == 1)
    assert h.finding("nobody-lingers", tmp_path).verdict == Verdict.PASS


def test_a_guest_who_hears_of_the_kill_late_counts(tmp_path: Path) -> None:
    """A load that is late notices the lost socket when the worker is back already."""
    h = _killed_worker()
    visit(h, "guest-1", CAME, lost=True)
    [ended] = [r for r in h.records if r["k"] == "ok" and r["op"] == "visit" and r["lost"]]
    ended["t"] = HEAL + 0.5
    finding = h.finding("nobody-lingers", tmp_path)
    assert (finding.verdict, finding.quantities["of_killed_workers"]) == (Verdict.PASS, 1)
