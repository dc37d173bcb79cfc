"""What a fault explains, by design or by its target, and what it does not excuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.verdict import Verdict
from tests.unit import planted_changes as planted
from tests.unit.histories import HEAL, KILL, SWITCH, History, healthy, stream, tries, visit
from tests.unit.planted_changes import Change

EXCUSED: list[tuple[str, Change]] = [
    ("stop-ends-task", planted.running("slow", 11, HEAL + 4)),
    ("recovery", lambda h: h.op("me", KILL - 1, took=4, outcome="info", token="u0")),
    ("recovery", lambda h: h.op("me", SWITCH + 4, outcome="fail", token="u0")),
    (
        "ready-truthful",
        lambda h: h.add(
            "sample", 12, probe="health", worker=0, path="/ready", status=503, ms=1.0, sent=12.0
        ),
    ),
    ("workers-alive", lambda h: h.add("exit", 10, name="redis-0", status=-9, expected=True)),
    ("sign-out-honoured", planted.alive(17.5, "after")),
    (
        "finished-unlisted",
        lambda h: h.op("list_tasks", 9, stream="c1", tasks_now=["t1"]),
    ),
    (
        "tokens-exactly-once-in-order",
        lambda h: stream(h, "x", 20, 21, runs=[(0, 3)]).add(
            "socket", 20.5, socket="u0-0", event="lost", reason="reset"
        ),
    ),
    (
        "connections-bounded-and-back",
        lambda h: h.add("sample", HEAL + 8, probe="worker", worker=0, connections=30),
    ),
    ("config-agrees", planted.shows(0, 25)),
    ("config-agrees", planted.changed_in_the_fault),
    ("config-agrees", planted.undecided_change),
    ("ready-means-working", planted.running("slow", 25, 34)),
    ("ready-means-working", lambda h: (planted.running("deaf", 25, 36.5)(h), planted.ready_no(h))),
    (  # stopped before the provider was asked
        "ready-means-working",
        lambda h: (
            h.op("chat_start", 24, stream="early"),
            h.op("stop", 25, stream="early", by="task", outlives=True, state="requested"),
        ),
    ),
    ("nobody-lingers", lambda h: visit(h, "guest-1", 10, online=12)),
    ("limit-held", lambda h: tries(h, "limit-1", 12, 30)),
    ("limit-held", lambda h: tries(h, "limit-1", 30, 9, outcome="info")),
    ("model-list-fresh", planted.lists({"1": 20}, 26)),
    (
        "model-list-fresh",
        lambda h: (
            h.op("models_refresh", 33, took=1, **planted.TWICE) and planted.lists({}, 33.5)(h)
        ),
    ),
    ("connections-kept", planted.churn(1)),
    ("connections-kept", planted.growth),
    ("sockets-kept-and-back", planted.socket_lost(12, HEAL + 4, workers=[0])),
    ("sockets-kept-and-back", planted.socket_lost(12, 12.5, workers=[])),
    ("sockets-kept-and-back", lambda h: h.add("socket", 9, socket="canary-w0", event="lost")),
    (
        "loop-stall",
        lambda h: h.add("stall", -1, worker=0, ms=900.0, raw_ms=900.0),
    ),
]


@pytest.mark.parametrize(
    ("name", "change"), EXCUSED, ids=[f"{n}-{i}" for i, (n, _) in enumerate(EXCUSED)]
)
def test_what_a_fault_explains_is_not_red(name: str, change: Change, tmp_path: Path) -> None:
    """Effects inside the bounds of a fault keep the guarantee."""
    h = healthy()
    change(h)
    assert h.finding(name, tmp_path).verdict == Verdict.PASS


def test_faults_without_a_pause_leave_no_steady_state_to_judge(tmp_path: Path) -> None:
    """How many connections are opened anew is then no question, rather than an open one."""
    h = healthy(bounds={"connections_settle_s": 100})
    assert h.finding("connections-kept", tmp_path / "a").applicable
    for record in h.records:
        if record["k"] == "fault":
            record["t"] = 3.0
    assert not h.finding("connections-kept", tmp_path / "b").applicable


def test_an_external_deployment_need_not_show_its_redis(tmp_path: Path) -> None:
    """Without a node to ask there is no question; with one that never answered it is open."""
    h = healthy().without(probe="redis")
    h.about["instruments"] = ["provider"]
    assert not h.finding("connections-kept", tmp_path / "a").applicable
    h.add("sample", 5, probe="redis", node="redis-0", role="down", error="refused")
    assert h.finding("connections-kept", tmp_path / "b").verdict == Verdict.UNKNOWN


@pytest.mark.parametrize("missing", ["confirm", "confirm_heal"])
def test_redis_that_was_absent_at_boot_excuses_nothing(missing: str, tmp_path: Path) -> None:
    """Its evidence is demanded like a fault's; what fails in the load is red all the same."""
    h = healthy(False, redis={"absent_at_boot_s": 1})
    for t, event in enumerate(("inject", "confirm", "heal", "confirm_heal"), start=-5):
        h.add("fault", t, id="boot", event=event, kind="absent", evidence="so it was")
    h.add("sample", 12, probe="health", worker=0, path="/ready", status=503, ms=2.0, sent=12.0)
    assert h.finding("fault-really-happened", tmp_path / "a").verdict == Verdict.PASS
    assert h.finding("ready-truthful", tmp_path / "b").verdict == Verdict.FAIL
    h.without(k="fault", event=missing)
    assert h.finding("fault-really-happened", tmp_path / "c").verdict == Verdict.UNKNOWN


@pytest.mark.parametrize(("worker", "verdict"), [(0, Verdict.PASS), (1, Verdict.FAIL)])
def test_a_worker_that_stands_still_is_no_blocked_loop(
    worker: int, verdict: Verdict, tmp_path: Path
) -> None:
    """While SIGSTOP lasts a worker owes neither its loop nor /health; the others do."""
    h = healthy()
    for record in h.records:
        if record["k"] == "fault":
            record.update(kind="worker-pause", workers=[0])
    h.add("stall", HEAL + 0.02, worker=worker, ms=4900.0, raw_ms=4900.0)
    asked = {"path": "/health", "status": 0, "ms": 2000.0, "sent": KILL - 0.01}
    h.add("sample", 12, probe="health", worker=worker, **asked)
    assert h.finding("loop-stall", tmp_path / "a").verdict == verdict
    assert h.finding("health-answers", tmp_path / "b").verdict == verdict


def test_session_data_lost_by_design_is_counted_apart(tmp_path: Path) -> None:
    """What was acknowledged before a restart that empties Redis is excused, and counted."""
    h = healthy()
    for record in h.records:
        if record["k"] == "fault" and record["event"] == "inject":
            record["loses_data"] = True
    h.op("session_write", 5, session="u1", value=3)
    h.op("session_read", 20, session="u1", value=None)
    finding = h.finding("session-read-your-writes", tmp_path)
    assert finding.verdict == Verdict.PASS
    assert finding.quantities["excused_after_data_loss"] == 1


def test_a_write_after_the_data_loss_must_stay(tmp_path: Path) -> None:
    """The excuse ends with the heal."""
    h = healthy()
    for record in h.records:
        if record["k"] == "fault" and record["event"] == "inject":
            record["loses_data"] = True
    h.op("session_write", HEAL + 1, session="u1", value=3)
    h.op("session_read", HEAL + 2, session="u1", value=None)
    assert h.finding("session-read-your-writes", tmp_path).verdict == Verdict.FAIL


@pytest.mark.parametrize(("worker", "verdict"), [(1, Verdict.PASS), (0, Verdict.FAIL)])
def test_only_a_killed_worker_owes_no_answer(worker: int, verdict: Verdict, tmp_path: Path) -> None:
    """While a fault holds worker 1 dead its /health may be silent, that of the others may not."""
    h = _one_killed()
    fields = {"worker": worker, "path": "/health", "status": 0, "ms": 1.0, "sent": KILL + 1}
    h.add("sample", KILL + 1, probe="health", **fields)
    assert h.finding("health-answers", tmp_path).verdict == verdict


@pytest.mark.parametrize(
    ("worker", "t", "verdict"),
    [(1, KILL + 0.01, "pass"), (0, KILL + 0.01, "fail"), (1, KILL - 1, "fail")],
)
def test_only_a_dying_worker_may_end_its_streams(
    worker: int, t: float, verdict: str, tmp_path: Path
) -> None:
    """Streams of the killed worker die with it; those of others, or ended before, do not."""
    h = stream(_one_killed(), "cut", 5, t, cause="client_closed")
    asked = next(r for r in h.records if r["k"] == "invoke" and r.get("stream") == "cut")
    asked["worker"] = worker
    finding = h.finding("no-unexplained-end", tmp_path)
    assert finding.verdict == verdict
    assert finding.quantities["died_with_worker"] == (verdict == "pass")


@pytest.mark.parametrize(
    ("origin", "before", "verdict"), [(1, 0.4, "pass"), (0, 0.4, "fail"), (1, 1.4, "fail")]
)
def test_only_the_newest_events_die_with_their_worker(
    origin: int, before: float, verdict: str, tmp_path: Path
) -> None:
    """What a killed worker acknowledged just before may be lost; nothing older, no other."""
    h = _one_killed()
    n = int((KILL - before) * 2)
    h.without(k="canary", n=n, origin=origin, at=0)
    finding = h.finding("canaries-delivered", tmp_path)
    assert finding.verdict == verdict
    assert finding.quantities["died_with_worker"] == (verdict == "pass")


def _one_cut() -> History:
    """Return a healthy history whose fault is aimed at worker 1 only."""
    h = healthy()
    for record in h.records:
        if record["k"] == "fault":
            record["workers"] = [1]
    return h


def _one_killed() -> History:
    """Return a healthy history in which worker 1 is killed and comes back."""
    h = _one_cut()
    for record in h.records:
        if record["k"] == "fault":
            record["kind"] = "worker-kill"
    return h


def test_others_are_undisturbed_when_only_the_cut_worker_fails(tmp_path: Path) -> None:
    """Failures on the worker that the fault hit are no concern of this guarantee."""
    h = _one_cut().op("me", KILL + 1, outcome="fail", worker=1, token="u0")
    h.op("me", KILL + 1, worker=0, token="u0")
    finding = h.finding("others-undisturbed", tmp_path)
    assert finding.verdict == Verdict.PASS
    assert finding.applicable
    assert finding.quantities["served_meanwhile"] >= 1


def test_a_failure_on_a_spared_worker_is_red(tmp_path: Path) -> None:
    """An operation that fails on a spared worker during the fault breaks the guarantee."""
    h = _one_cut().op("me", KILL + 1, outcome="fail", worker=0, token="u0")
    finding = h.finding("others-undisturbed", tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert "worker 0" in finding.examples[0].text


def test_a_fault_that_spares_nobody_leaves_nothing_to_judge(tmp_path: Path) -> None:
    """Without a fault aimed at some workers the guarantee does not apply."""
    assert not healthy().finding("others-undisturbed", tmp_path).applicable


def test_spared_workers_that_were_not_asked_prove_nothing(tmp_path: Path) -> None:
    """Without an operation on a spared worker during the fault the verdict is unknown."""
    h = _one_cut()
    h.records = [r for r in h.records if not (r["k"] == "invoke" and KILL <= r["t"] <= HEAL)]
    kept = {r["id"] for r in h.records if r["k"] == "invoke"}
    h.records = [r for r in h.records if "op" not in r or r["id"] in kept]
    assert h.finding("others-undisturbed", tmp_path).verdict == Verdict.UNKNOWN


@pytest.mark.parametrize(("allowed", "verdict"), [(0, "fail"), (1, "pass")])
def test_a_fault_is_ridden_out_when_hardly_anything_fails(
    allowed: int, verdict: str, tmp_path: Path
) -> None:
    """What failed during the fault counts against the stated bound; what failed before does not."""
    h = healthy(bounds={"failed_in_faults": allowed})
    h.op("me", KILL - 5, outcome="fail", token="u0")
    h.op("me", KILL + 1, outcome="fail", token="u0")
    finding = h.finding("faults-ridden-out", tmp_path)
    assert finding.applicable
    assert finding.verdict == verdict
    assert finding.quantities["failed"] == 1


def test_a_fault_that_nobody_met_was_not_ridden_out(tmp_path: Path) -> None:
    """Without an operation during the fault the verdict is unknown."""
    h = healthy(bounds={"failed_in_faults": 0})
    h.records = [r for r in h.records if r["k"] not in ("invoke", "ok", "fail", "info")]
    assert h.finding("faults-ridden-out", tmp_path).verdict == Verdict.UNKNOWN


def test_a_lost_write_counts_once_and_tells_when_it_was_acknowledged(tmp_path: Path) -> None:
    """Three writes of two users are lost, however many reads show it; the bound is on writes."""
    h = healthy()
    for session, value, t in (("u8", 1, 11.0), ("u8", 2, 12.0), ("u8", 3, 12.5), ("u9", 1, 13.0)):
        h.op("session_write", t, session=session, value=value)
    for t in (20.0, 21.0, 22.0):
        h.op("session_read", t, session="u8", value=1)
    h.op("session_read", 23, session="u9", value=None)
    finding = h.finding("session-read-your-writes", tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert (finding.quantities["lost"], finding.quantities["stale_reads"]) == (3, 4)
    assert finding.quantities["lost_over_s"] == pytest.approx(1.0, abs=0.2)
    assert finding.examples[0].text == "worker 0 read 1 in u8 after 3 was acknowledged"
