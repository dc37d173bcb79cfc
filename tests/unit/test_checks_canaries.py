"""Which canaries count as load: those that say something of a pair of workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checks.base import Finding
from harness.verdict import Verdict
from tests.unit.histories import History, Record, healthy

SENT = 56  # from each worker inside focus: two a second from 2 to 30 s
FROM, UNTIL = 8.0, 29.0  # most of focus
Change = Callable[[History], object]


def _enough(change: Change, folder: Path) -> Finding:
    h = healthy(enough={"canaries_per_pair": 50})
    change(h)
    return h.finding("enough-load", folder)


def _meanwhile(record: Record) -> bool:
    return FROM <= record["t"] <= UNTIL


def _posts_of_1_refused(h: History) -> None:
    asked = {r["id"] for r in h.records if r.get("op") == "event_post" and r.get("origin") == 1}
    for record in h.records:
        if record["k"] == "ok" and record["id"] in asked and _meanwhile(record):
            record.update(k="fail", error="http-503")
    _unheard(h, origin=1)


def _unheard(h: History, **which: int) -> None:
    """Let no canary of these arrive meanwhile."""
    h.records = [
        r
        for r in h.records
        if r["k"] != "canary" or not _meanwhile(r) or not which.items() <= r.items()
    ]


def _socket_on_1_gone(h: History) -> None:
    _unheard(h, at=1)
    h.add("socket", FROM + 1, socket="canary-w1", event="lost", reason="reset")
    h.add("socket", UNTIL, socket="canary-w1", event="opened", reason="")


def _worker_0_killed(h: History) -> None:
    """Kill the worker that had acknowledged: it took them with it."""
    for record in h.records:
        if record["k"] == "fault":
            record.update(kind="worker-kill", workers=[0])
    _unheard(h, origin=0)


@pytest.mark.parametrize(
    ("change", "most"),
    [(_posts_of_1_refused, 20), (_socket_on_1_gone, 20), (_worker_0_killed, SENT - 8)],
)
def test_canaries_that_prove_nothing_are_no_load(change: Change, most: int, tmp_path: Path) -> None:
    """Refused, sent to a socket that was not there, or dead with their worker: not counted."""
    finding = _enough(change, tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert 0 < finding.quantities["canaries_per_pair"] <= most
    assert "canaries_per_pair" in finding.reason


def test_canaries_that_were_lost_are_load(tmp_path: Path) -> None:
    """A worker that is deaf is red, and not for lack of canaries."""
    finding = _enough(lambda h: _unheard(h, at=1), tmp_path / "a")
    assert finding.verdict == Verdict.PASS
    assert finding.quantities["canaries_per_pair"] == SENT
    h = healthy()
    _unheard(h, at=1)
    assert h.finding("canaries-delivered", tmp_path / "b").verdict == Verdict.FAIL


def test_a_killed_worker_has_few_by_design(tmp_path: Path) -> None:
    """Where other pairs are left, they count."""

    def killed(h: History) -> None:
        _worker_0_killed(h)
        h.about["workers"] = 3
        others = [r for r in h.records if r["k"] == "canary" and r["origin"] == 1]
        for record in others:
            h.records.append({**record, "at": 2})
        _third_posts(h)

    finding = _enough(killed, tmp_path)
    assert finding.verdict == Verdict.PASS
    assert finding.quantities["canaries_per_pair"] == SENT


def _third_posts(h: History) -> None:
    """Let worker 2 post as often, and worker 1 hear all."""
    for tick in range(60):
        t = tick / 2
        h.op("event_post", t + 0.1, n=tick, origin=2, worker=2)
        h.add("canary", t + 0.12, event="heard", n=tick, origin=2, at=1, sent=t + 0.1)


@pytest.mark.parametrize(("lost", "verdict"), [(24.5, Verdict.PASS), (26.5, Verdict.FAIL)])
def test_a_canary_may_arrive_until_two_seconds_after_its_acknowledgement(
    lost: float, verdict: Verdict, tmp_path: Path
) -> None:
    """However long that took: a socket that is lost by then excuses its silence."""
    h = healthy()
    h.op("event_post", 20, took=4, n=999, origin=0, worker=0)
    h.add("canary", 24, event="heard", n=999, origin=0, at=0, sent=20.0)
    h.add("socket", lost, socket="canary-w1", event="lost", reason="reset")
    h.add("socket", lost + 1, socket="canary-w1", event="opened", reason="")
    assert h.finding("canaries-delivered", tmp_path).verdict == verdict


def test_a_single_worker_is_a_pair_with_itself(tmp_path: Path) -> None:
    """It hears its own."""
    h = healthy(workers=1, enough={"canaries_per_pair": 50})
    h.about["workers"] = 1
    gone = {r["id"] for r in h.records if r["k"] == "invoke" and r["worker"] == 1}
    h.records = [r for r in h.records if 1 not in (r.get("at"), r.get("worker"), r.get("origin"))]
    h.records = [r for r in h.records if r.get("id") not in gone]
    assert h.finding("enough-load", tmp_path).quantities["canaries_per_pair"] == SENT
