"""Connections of workers: what has to come back after a fault, and what is a leak without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.verdict import Verdict
from tests.unit import planted_changes as planted
from tests.unit.histories import END, HEAL, healthy
from tests.unit.planted_changes import Change

NAME = "connections-bounded-and-back"


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "baseline"])
def test_a_pool_that_grows_in_the_last_look_is_no_leak(fault: bool, tmp_path: Path) -> None:
    """Everything is looked at at once there: more calls than the baseline ever had."""
    h = healthy(fault)
    planted.last_look_burst(h)
    finding = h.finding(NAME, tmp_path)
    assert finding.verdict == Verdict.PASS
    assert finding.quantities["peak"] == 16


def test_the_last_look_counts_where_the_load_ended_too_early(tmp_path: Path) -> None:
    """A worker that was above the bound when the load ended has to come back all the same."""
    h = healthy(bounds={"connections_settle_s": 1})
    planted.leak(h)
    for record in h.records:
        if record["k"] == "phase" and record["name"] == "quiesce":
            record["t"] = HEAL + 0.5
    assert h.finding(NAME, tmp_path).verdict == Verdict.FAIL


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (planted.connections(12, 12, 18, 30), Verdict.FAIL),
        (planted.connections(12, 14, 16, 18), Verdict.FAIL),
        (planted.connections(12, 15, 15, 15), Verdict.PASS),  # one burst, whenever it comes
        (planted.connections(12, 12, 15, 15), Verdict.PASS),
        (planted.connections(12, 12, 12, 15), Verdict.PASS),
        (planted.connections(12, 30, 18, 12), Verdict.PASS),  # it comes back
    ],
)
def test_without_a_fault_only_growth_that_goes_on_is_red(
    change: Change, verdict: Verdict, tmp_path: Path
) -> None:
    """A pool may grow once to what is asked for at once; a leak never ends."""
    h = healthy(fault=False)
    change(h)
    assert h.finding(NAME, tmp_path).verdict == verdict


def test_a_leak_is_seen_in_a_short_load(tmp_path: Path) -> None:
    """Without a fault there is nothing to settle from, so the time to settle hides nothing."""
    h = healthy(fault=False, bounds={"connections_settle_s": END})
    planted.connections(12, 12, 18, 30)(h)
    assert h.finding(NAME, tmp_path).verdict == Verdict.FAIL


def test_a_quarter_without_samples_proves_nothing(tmp_path: Path) -> None:
    """A leak would show in the last quarter of the load."""
    h = healthy(fault=False)
    h.records = [r for r in h.records if r.get("probe") != "worker" or not 30 <= r["t"] < END]
    assert h.finding(NAME, tmp_path).verdict == Verdict.UNKNOWN


def test_growth_under_growing_load_is_not_judged(tmp_path: Path) -> None:
    """More users need more connections."""
    h = healthy(fault=False, load={"users": 4, "ramp": {"users": 12}})
    planted.connections(12, 14, 18, 30)(h)
    assert not h.finding(NAME, tmp_path).applicable
