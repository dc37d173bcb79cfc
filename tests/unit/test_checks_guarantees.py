"""Every guarantee: kept by a healthy history, broken by planted defects, unknown when thin."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.verdict import Verdict
from harness.vocabulary import TRACED
from tests.unit import planted_changes as planted
from tests.unit.histories import (
    END,
    HEAL,
    KILL,
    SWITCH,
    ended_session,
    healthy,
    names,
    stream,
    tries,
    visit,
)
from tests.unit.planted_changes import Change


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "baseline"])
def test_a_healthy_history_keeps_every_guarantee(fault: bool, tmp_path: Path) -> None:
    """Nothing is red or unknown when nothing is wrong; all but the fault's own kind applies."""
    judgement = healthy(fault).judge(tmp_path)
    wrong = {f.name: f.reason for f in judgement.findings if f.verdict != Verdict.PASS}
    assert not wrong
    idle = [f.name for f in judgement.findings if not f.applicable]
    # no client only polls, no bound is stated, no fault spares a worker, and nothing is traced
    untraced = [name for name in names() if name in TRACED]
    assert idle == ["handshakes-kept", "faults-ridden-out", "others-undisturbed", *untraced]
    assert judgement.outcome == "as_expected"


BROKEN: list[tuple[str, str, Change]] = [
    (
        "sign-in-honoured",
        "one worker refuses a valid token",
        lambda h: h.op("me", 12, token="u0", worker=1, alive=False),
    ),
    (
        "sign-in-honoured",
        "refused before its sign-out",
        lambda h: h.op("token_probe", 12, token="x9", worker=0, when="before", alive=False),
    ),
    ("sign-out-honoured", "accepted after 1.5 s", planted.alive(18.6, "after")),
    ("sign-out-honoured", "accepted in the last look", planted.alive(43, "final")),
    ("sign-out-stays", "accepted after it was dead", planted.second_life),
    ("sign-out-stays", "accepted in the last look", planted.alive(43, "final")),
    (
        "session-read-your-writes",
        "lost",
        lambda h: h.op("session_read", 19, session="u0", value=None),
    ),
    (
        "session-read-your-writes",
        "old value",
        lambda h: h.op("session_read", 19, session="u0", value=0),
    ),
    (
        "session-read-your-writes",
        "never written",
        lambda h: h.op("session_read", 19, session="u0", value=7),
    ),
    ("session-stays-removed", "it is back", lambda h: ended_session(h, "e1", 30, found=2)),
    ("session-stays-removed", "never ended", lambda h: ended_session(h, "e1", 30, found=1)),
    ("nobody-lingers", "online after 11 s", lambda h: visit(h, "guest-1", 22, online=12)),
    ("nobody-lingers", "long after the heal", lambda h: visit(h, "guest-1", 11, online=16)),
    ("usage-ends", "in use after 11 s", lambda h: visit(h, "guest-1", 22, in_use=12)),
    ("logs-bounded", "a storm", planted.storm),
    (
        "session-is-own",
        "another user's",
        lambda h: h.op("session_read", 19, session="u0", value=1, owner="u1"),
    ),
    ("stop-ends-task", "too late", planted.running("late", 25, 28)),
    ("stop-ends-task", "never", planted.running("never", 25, None)),
    ("stop-ends-task", "late after the heal", planted.running("late", 12, HEAL + 6)),
    ("stop-is-truthful", "finished, but ran", planted.lies("finished")),
    ("stop-is-truthful", "not found, but ran", planted.lies("not_found")),
    (
        "finished-unlisted",
        "listed after 20 s",
        lambda h: h.op("list_tasks", 27, stream="c1", tasks_now=["t1"]),
    ),
    (
        "finished-unlisted",
        "listed in the last look",
        lambda h: h.op("list_tasks", 45, stream="s2", when="final", tasks_now=["t"]),
    ),
    ("running-listed", "not listed", planted.unlisted),
    (
        "no-unexplained-end",
        "closed unasked",
        lambda h: stream(h, "cut", 20, 21, cause="client_closed"),
    ),
    (
        "no-unexplained-end",
        "stopped only afterwards",
        lambda h: stream(h, "cut", 20, 21, cause="client_closed").op(
            "stop", 22, stream="cut", by="task", outlives=False, state="finished"
        ),
    ),
    (
        "tasks-are-own",
        "somebody else's",
        lambda h: h.op("list_all_tasks", 21, tasks_now=["task-s2", "task-of-others"]),
    ),
    ("tokens-exactly-once-in-order", "a gap", planted.runs((0, 3), (5, 9))),
    ("tokens-exactly-once-in-order", "a repeat", planted.runs((0, 5), (5, 9))),
    ("tokens-exactly-once-in-order", "late filling", planted.runs((0, 3), (6, 9), (4, 5))),
    ("tokens-exactly-once-in-order", "the first lost", planted.runs((1, 9))),
    ("tokens-exactly-once-in-order", "the last lost", planted.runs((0, 7))),
    ("tokens-exactly-once-in-order", "all lost", lambda h: h.without(k="run", stream="c1")),
    ("stream-end-told", "never told", lambda h: h.without(k="end", stream="c1")),
    ("stream-end-told", "told in another tab only", planted.told_in_a_tab),
    (
        "resync-hints-bounded",
        "one hint",
        lambda h: h.add("resync", 12, socket="u0-0"),
    ),
    ("deaf-time", "deaf for 4 s", planted.deaf),
    ("deaf-time", "deaf to the end", lambda h: h.without(k="canary", origin=0, at=1)),
    ("canaries-delivered", "one lost", lambda h: h.without(k="canary", n=24, at=1)),
    (
        "canaries-delivered",
        "one twice",
        lambda h: h.add("canary", 20, event="heard", n=24, origin=0, at=1, sent=12.1),
    ),
    ("connections-bounded-and-back", "a leak", planted.leak),
    ("connections-kept", "three a second", planted.churn(3)),
    ("sockets-kept-and-back", "lost while Redis is away", planted.socket_lost(12, 13)),
    ("sockets-kept-and-back", "lost on another worker", planted.socket_lost(12, 13, workers=[1])),
    ("sockets-kept-and-back", "back late", planted.socket_lost(12, HEAL + 6, workers=[0])),
    ("sockets-kept-and-back", "never back", planted.socket_lost(12, None, workers=[])),
    ("sockets-kept-and-back", "another tab is back", planted.tab_lost),
    ("config-agrees", "one worker has the old value", planted.shows(0, 33)),
    ("config-agrees", "one worker has none", planted.shows(None, 33)),
    ("config-agrees", "it goes back long after", planted.shows(0, END - 1)),
    ("limit-held", "once per worker", lambda h: tries(h, "limit-1", 30, 30)),
    ("limit-held", "one more", lambda h: tries(h, "limit-1", 30, 16)),
    ("limit-held", "more than once per worker in a fault", lambda h: tries(h, "x", 12, 31)),
    ("limit-held", "denied too early", lambda h: tries(h, "limit-1", 30, 14)),
    ("model-list-whole", "empty", planted.lists({}, 21.5)),
    ("model-list-whole", "a part", planted.lists({"1": 19}, 21.5)),
    ("model-list-whole", "mixed", planted.lists({"1": 10, "2": 10}, 24.1)),
    ("model-list-whole", "empty in the fault", planted.lists({}, 12)),
    ("model-list-fresh", "the old one", planted.lists({"1": 20}, 33)),
    ("model-list-fresh", "none", planted.lists({}, 33)),
    ("loop-stall", "300 ms", lambda h: h.add("stall", 12, worker=1, ms=300.0, raw_ms=310.0)),
    ("health-answers", "slow", planted.health(200, 1200.0)),
    ("health-answers", "an error", planted.health(500, 2.0)),
    ("health-answers", "no answer", planted.health(0, 2000.0)),
    ("ready-truthful", "not ready with nothing broken", planted.ready_no),
    ("ready-means-working", "ready, and its task runs on", planted.running("deaf", 25, 36.5)),
    ("recovery", "failed before the fault", lambda h: h.op("me", 5, outcome="fail", token="u0")),
    (
        "recovery",
        "failed long after the switch",
        lambda h: h.op("me", SWITCH + 6, outcome="info", token="u0"),
    ),
    (
        "handshakes-kept",
        "the next request reaches another worker",
        lambda h: h.op("poll_connect", 20, outcome="info", error="unknown-error"),
    ),
    ("requests-end", "a late answer", lambda h: h.op("me", 12, took=8.5, token="u0", alive=True)),
    (
        "requests-end",
        "given up",
        lambda h: h.op("me", 12, took=10, outcome="info", token="u0"),
    ),
    (
        "workers-alive",
        "one died",
        lambda h: h.add("exit", 12, name="worker-1", pid=1, status=-11, expected=False),
    ),
]


@pytest.mark.parametrize(
    ("name", "change"), [(n, c) for n, _, c in BROKEN], ids=[f"{n}: {why}" for n, why, _ in BROKEN]
)
def test_a_planted_defect_is_red(name: str, change: Change, tmp_path: Path) -> None:
    """The guarantee that the defect breaks fails, says why, and gives an example."""
    h = healthy()
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.reason
    assert finding.examples
    assert finding.examples[0].text


THIN: list[tuple[str, Change]] = [
    ("sign-in-honoured", lambda h: h.without(op="me").without(op="token_probe")),
    ("sign-out-honoured", lambda h: h.without(op="sign_out")),
    ("sign-out-honoured", lambda h: h.without(op="token_probe")),
    ("sign-out-stays", lambda h: h.without(when="final")),
    ("session-read-your-writes", lambda h: h.without(op="session_read")),
    ("session-read-your-writes", lambda h: h.without(k="ok", op="session_write")),
    ("session-stays-removed", lambda h: h.without(op="session_end")),
    ("session-stays-removed", lambda h: h.without(op="session_late")),
    ("session-stays-removed", lambda h: h.without(op="session_again", worker=1)),
    ("nobody-lingers", lambda h: h.without(op="visit")),
    ("usage-ends", lambda h: h.without(op="usage_read")),
    ("logs-bounded", lambda h: h.without(probe="worker", worker=1)),
    ("session-is-own", lambda h: h.without(op="session_read", worker=1)),
    ("stop-ends-task", lambda h: h.without(op="stop")),
    ("stop-ends-task", lambda h: h.without(k="stream")),
    ("stop-ends-task", planted.running("open", 44.5, None)),
    ("stop-is-truthful", lambda h: h.without(op="stop")),
    ("finished-unlisted", lambda h: h.without(op="list_tasks")),
    ("running-listed", lambda h: h.without(op="list_tasks")),
    ("no-unexplained-end", lambda h: h.without(k="stream")),
    ("tasks-are-own", lambda h: h.without(op="list_all_tasks", worker=1)),
    ("tasks-are-own", planted.empty_lists),
    ("tokens-exactly-once-in-order", lambda h: h.without(k="run").without(k="stream")),
    ("stream-end-told", lambda h: h.without(k="stream")),
    ("resync-hints-bounded", lambda h: h.without(k="socket")),
    ("canaries-delivered", lambda h: h.without(op="event_post", worker=1)),
    ("connections-bounded-and-back", lambda h: h.without(probe="worker", worker=1)),
    ("connections-kept", lambda h: h.without(probe="redis")),
    ("sockets-kept-and-back", lambda h: h.without(op="connect")),
    ("sockets-kept-and-back", planted.lost_at_the_end),
    ("config-agrees", lambda h: h.without(op="config_write")),
    ("config-agrees", lambda h: h.without(op="config_read", worker=1)),
    ("limit-held", lambda h: h.without(op="sign_in_try")),
    ("limit-held", lambda h: h.without(op="sign_in_try") and tries(h, "x", 30, 15, denied=0)),
    ("model-list-whole", lambda h: h.without(op="models_refresh")),
    (
        "model-list-whole",
        lambda h: h.without(op="models_read").without(op="models_refresh", worker=1),
    ),
    ("model-list-fresh", lambda h: h.without(op="models_refresh")),
    ("ready-means-working", lambda h: h.without(op="stop")),
    ("ready-means-working", lambda h: h.without(path="/ready", worker=0)),
    ("loop-stall", lambda h: h.without(k="stall", worker=1)),
    ("health-answers", lambda h: h.without(path="/health", worker=0)),
    ("ready-truthful", lambda h: h.without(path="/ready", worker=0)),
    ("handshakes-kept", lambda h: h.op("poll_connect", 12, outcome="info")),
    ("requests-end", lambda h: h.without(k="invoke")),
    ("fault-really-happened", lambda h: h.without(event="confirm")),
    ("fault-really-happened", lambda h: h.without(event="confirm_heal")),
    ("fault-really-happened", lambda h: h.fault("error", 10, text="confirm: still alive")),
    ("load-healthy", lambda h: h.without(k="note")),
    ("load-healthy", lambda h: h.without(probe="load")),
    ("load-healthy", lambda h: h.add("note", 9, level="error", text="load-0: broken")),
    ("workers-alive", lambda h: h.without(probe="worker", worker=1)),
    (
        "harness-alive",
        lambda h: h.add("exit", 12, name="provider", pid=1, status=-9, expected=False),
    ),
]


@pytest.mark.parametrize(
    ("name", "change"), THIN, ids=[f"{n}-{i}" for i, (n, _) in enumerate(THIN)]
)
def test_thin_evidence_is_unknown(name: str, change: Change, tmp_path: Path) -> None:
    """Without the records that prove it, a guarantee is unknown and says what is missing."""
    h = healthy()
    ids = {r["id"] for r in h.records if r["k"] == "invoke"}
    change(h)
    kept = {r["id"] for r in h.records if r["k"] == "invoke"}
    h.records = [r for r in h.records if r.get("id") not in ids - kept]  # whole operations
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert finding.reason
    assert not finding.reason.startswith("check crashed")


def test_recovery_is_unknown_when_an_operation_never_came_back(tmp_path: Path) -> None:
    """An operation that succeeded before the switch and was never seen after proves nothing."""
    h = healthy()
    h.op("rare", 5)
    finding = h.finding("recovery", tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert "rare" in finding.reason


@pytest.mark.parametrize(
    "name", ["stops", "sign_outs", "canaries_per_pair", "requests_per_s", "neighbour_streams"]
)
def test_too_little_load_is_unknown(name: str, tmp_path: Path) -> None:
    """A minimum of the scenario that is not reached makes the run unknown."""
    finding = healthy(enough={name: 1000}).finding("enough-load", tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert name in finding.reason


def test_what_the_neighbour_did_is_enough(tmp_path: Path) -> None:
    """Its streams are told by one sample, at its end."""
    h = healthy(enough={"neighbour_streams": 9})
    h.add("sample", END, probe="neighbour", streams=9, operations=40, failed=0)
    assert h.finding("enough-load", tmp_path).verdict == Verdict.PASS


def test_the_task_of_a_start_that_was_not_answered_is_nobody_elses(tmp_path: Path) -> None:
    """One unknown task may be of the one unanswered start; two may not."""
    h = healthy()
    h.op("chat_start", 20, outcome="info", stream="c9", user=0, socket="u0-0", tokens=10)
    h.op("list_all_tasks", 21, tasks_now=["task-c9"])
    assert h.finding("tasks-are-own", tmp_path / "one").verdict == Verdict.PASS
    h.op("list_all_tasks", 22, tasks_now=["task-of-others"])
    assert h.finding("tasks-are-own", tmp_path / "two").verdict == Verdict.FAIL


def test_a_late_generator_is_unknown(tmp_path: Path) -> None:
    """Load that was late most of the time proves nothing."""
    h = healthy()
    for record in h.records:
        if record.get("probe") == "load":
            record["late_ms"] = 400.0
    assert h.finding("load-healthy", tmp_path).verdict == Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"cpu": 0.99}, "load-0 used a whole processor"), ({"shed": 3}, "shed 3 steps")],
)
def test_an_overloaded_generator_is_unknown(
    fields: dict[str, float], words: str, tmp_path: Path
) -> None:
    """A load process out of processor time, or one that gave up steps, was the bottleneck."""
    h = healthy()
    for record in h.records:
        if record.get("probe") == "load":
            record.update(fields)
    finding = h.finding("load-healthy", tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert words in finding.reason


def test_a_stop_that_came_before_its_stream_is_counted_apart(tmp_path: Path) -> None:
    """It needs no fault to be lost; one that came while its stream ran is not one of these."""
    h = healthy()
    for name, opened in (("before", 25.5), ("while", 24.0)):
        stream(h, name, opened, None, cause="client_closed", sent=5)
        h.op("stop", 25, stream=name, by="task", outlives=True, state="requested")
    found = h.finding("stop-ends-task", tmp_path).quantities
    assert (found["late_or_never"], found["before_its_stream"]) == (2, 1)


def test_a_busy_second_of_the_generator_is_no_bottleneck(tmp_path: Path) -> None:
    """One second of full use among many is normal."""
    h = healthy()
    busy = next(r for r in h.records if r.get("probe") == "load" and r["t"] > 5)
    busy["cpu"] = 1.0
    assert h.finding("load-healthy", tmp_path).verdict == Verdict.PASS


def test_every_guarantee_is_covered_here() -> None:
    """Each guarantee has a defect that makes it red or unknown."""
    known = {n for n, _, _ in BROKEN} | {n for n, _ in THIN} | {"enough-load"}
    known |= {"others-undisturbed"}  # in test_checks_excuses, with a fault that spares a worker
    known |= {"faults-ridden-out"}  # the same, with its bound
    known |= TRACED  # in test_checks_traces, with traces
    assert known == set(names())
    assert END > HEAL > SWITCH > KILL
