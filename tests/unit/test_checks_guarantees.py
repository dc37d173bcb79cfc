"""Every guarantee: kept by a healthy history, broken by planted defects, unknown when thin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.verdict import Verdict
from tests.unit.histories import (
    END,
    HEAL,
    KILL,
    SWITCH,
    History,
    ended_session,
    healthy,
    names,
    stream,
    tries,
    visit,
)

Change = Callable[[History], object]


@pytest.mark.parametrize("fault", [True, False], ids=["fault", "baseline"])
def test_a_healthy_history_keeps_every_guarantee(fault: bool, tmp_path: Path) -> None:
    """Nothing is red or unknown when nothing is wrong; all but the fault's own kind applies."""
    judgement = healthy(fault).judge(tmp_path)
    wrong = {f.name: f.reason for f in judgement.findings if f.verdict != Verdict.PASS}
    assert not wrong
    idle = [f.name for f in judgement.findings if not f.applicable]
    # no client only polls, no bound is stated, and no fault spares a worker
    assert idle == ["handshakes-kept", "faults-ridden-out", "others-undisturbed"]
    assert judgement.outcome == "as_expected"


def _alive(t: float, when: str, worker: int = 1) -> Change:
    return lambda h: h.op("token_probe", t, token="x1", worker=worker, when=when, alive=True)


def _running(name: str, stop_at: float, closed: float | None) -> Change:
    def change(h: History) -> None:
        stream(h, name, stop_at - 1, closed, cause="client_closed", sent=5)
        h.op("stop", stop_at, stream=name, by="task", outlives=True, state="requested")

    return change


def _deaf(h: History) -> None:
    h.records = [
        r
        for r in h.records
        if not (r["k"] == "canary" and r["at"] == 1 and SWITCH < r["t"] < SWITCH + 4)
    ]


def _leak(h: History) -> None:
    for r in h.records:
        if r.get("probe") == "worker" and r["worker"] == 1 and r["t"] > SWITCH:
            r["connections"] = 16


def _churn(per_s: int) -> Change:
    """Let the server accept so many connections a second from the middle of the load on."""

    def change(h: History) -> None:
        for r in h.records:
            if r.get("probe") == "redis" and r["t"] > HEAL + 10:
                r["received"] += int((r["t"] - HEAL - 10) * per_s)

    return change


def _growth(h: History) -> None:
    """Let pools grow by three connections a second, none of them closed."""
    _churn(3)(h)
    for r in h.records:
        if r.get("probe") == "redis":
            r["clients"] += r["received"] - 20


def _runs(*runs: tuple[int, int], sent: int = 10) -> Change:
    return lambda h: stream(h, "bad", 20, 21, runs=list(runs), sent=sent)


def _second_life(h: History) -> None:
    h.op("token_probe", 20, token="x1", worker=0, when="after", alive=True)


def _lies(state: str) -> Change:
    def change(h: History) -> None:
        stream(h, "lie", 20, 25)
        h.op("stop", 21, stream="lie", by="task", outlives=True, state=state)

    return change


def _unlisted(h: History) -> None:
    stream(h, "hidden", 20, 30)
    h.op("list_tasks", 25, stream="hidden", tasks_now=[])


def _storm(h: History) -> None:
    """Worker 1 writes 100 kB/s from the kill to the heal."""
    for r in h.records:
        if r.get("probe") == "worker" and r["worker"] == 1:
            r["log"] += int(100_000 * (min(max(r["t"], KILL), HEAL) - KILL))


def _shows(value: int | None, t: float) -> Change:
    return lambda h: h.op("config_read", t, value=value, worker=1)


def _changed_in_the_fault(h: History) -> None:
    """Worker 1 has a change that the fault met a second after the heal, in its time."""
    h.op("config_write", KILL + 1, value=7).op("config_read", HEAL + 1, value=-1, worker=1)


def _undecided_change(h: History) -> None:
    """Leave a change unanswered: it may be seen at any time."""
    h.op("config_write", 5, value=9, outcome="info").op("config_read", 35, value=9, worker=1)


TWICE: dict[str, Any] = {"version": 2, "versions": {"2": 20}, "models": 21}


def _lists(versions: dict[str, int], t: float) -> Change:
    fields = {"versions": versions, "models": 1 + sum(versions.values()), "worker": 1}
    return lambda h: h.op("models_read", t, **fields)


def _ready_no(h: History) -> None:
    h.add("sample", 30, probe="health", worker=0, path="/ready", status=503, ms=2.0, sent=30.0)


def _health(status: int, ms: float) -> Change:
    fields = {"worker": 0, "path": "/health", "status": status, "ms": ms, "sent": 12.0}
    return lambda h: h.add("sample", 12, probe="health", **fields)


def _socket_lost(t: float, back: float | None, workers: list[int] | None = None) -> Change:
    """Lose the user's socket; `workers` are those whose sockets the fault closes, [] means all."""

    def change(h: History) -> None:
        for record in h.records:
            if record["k"] == "fault":
                record |= {"closes_sockets": workers is not None, "workers": workers or []}
        h.add("socket", t, socket="u0-0", event="lost", reason="closed by the server")
        if back is not None:
            h.op("connect", back, socket="u0-1", user=0)

    return change


def _lost_at_the_end(h: History) -> None:
    """Close sockets by a fault that lasts to the end, so that nobody can be back before it."""
    _socket_lost(42, None, workers=[])(h)
    h.without(k="fault", event="heal")


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
    ("sign-out-honoured", "accepted after 1.5 s", _alive(18.6, "after")),
    ("sign-out-honoured", "accepted in the last look", _alive(43, "final")),
    ("sign-out-stays", "accepted after it was dead", _second_life),
    ("sign-out-stays", "accepted in the last look", _alive(43, "final")),
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
    ("logs-bounded", "a storm", _storm),
    (
        "session-is-own",
        "another user's",
        lambda h: h.op("session_read", 19, session="u0", value=1, owner="u1"),
    ),
    ("stop-ends-task", "too late", _running("late", 25, 28)),
    ("stop-ends-task", "never", _running("never", 25, None)),
    ("stop-ends-task", "late after the heal", _running("late", 12, HEAL + 6)),
    ("stop-is-truthful", "finished, but ran", _lies("finished")),
    ("stop-is-truthful", "not found, but ran", _lies("not_found")),
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
    ("running-listed", "not listed", _unlisted),
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
    ("tokens-exactly-once-in-order", "a gap", _runs((0, 3), (5, 9))),
    ("tokens-exactly-once-in-order", "a repeat", _runs((0, 5), (5, 9))),
    ("tokens-exactly-once-in-order", "late filling", _runs((0, 3), (6, 9), (4, 5))),
    ("tokens-exactly-once-in-order", "the first lost", _runs((1, 9))),
    ("tokens-exactly-once-in-order", "the last lost", _runs((0, 7))),
    ("tokens-exactly-once-in-order", "all lost", lambda h: h.without(k="run", stream="c1")),
    ("stream-end-told", "never told", lambda h: h.without(k="end", stream="c1")),
    (
        "resync-hints-bounded",
        "one hint",
        lambda h: h.add("resync", 12, socket="u0-0"),
    ),
    ("deaf-time", "deaf for 4 s", _deaf),
    ("deaf-time", "deaf to the end", lambda h: h.without(k="canary", origin=0, at=1)),
    ("canaries-delivered", "one lost", lambda h: h.without(k="canary", n=24, at=1)),
    (
        "canaries-delivered",
        "one twice",
        lambda h: h.add("canary", 20, event="heard", n=24, origin=0, at=1, sent=12.1),
    ),
    ("connections-bounded-and-back", "a leak", _leak),
    ("connections-kept", "three a second", _churn(3)),
    ("sockets-kept-and-back", "lost while Redis is away", _socket_lost(12, 13)),
    ("sockets-kept-and-back", "lost on another worker", _socket_lost(12, 13, workers=[1])),
    ("sockets-kept-and-back", "back late", _socket_lost(12, HEAL + 6, workers=[0])),
    ("sockets-kept-and-back", "never back", _socket_lost(12, None, workers=[])),
    ("config-agrees", "one worker has the old value", _shows(0, 33)),
    ("config-agrees", "one worker has none", _shows(None, 33)),
    ("config-agrees", "it goes back long after", _shows(0, END - 1)),
    ("limit-held", "once per worker", lambda h: tries(h, "limit-1", 30, 30)),
    ("limit-held", "one more", lambda h: tries(h, "limit-1", 30, 16)),
    ("limit-held", "more than once per worker in a fault", lambda h: tries(h, "x", 12, 31)),
    ("limit-held", "denied too early", lambda h: tries(h, "limit-1", 30, 14)),
    ("model-list-whole", "empty", _lists({}, 21.5)),
    ("model-list-whole", "a part", _lists({"1": 19}, 21.5)),
    ("model-list-whole", "mixed", _lists({"1": 10, "2": 10}, 24.1)),
    ("model-list-whole", "empty in the fault", _lists({}, 12)),
    ("model-list-fresh", "the old one", _lists({"1": 20}, 33)),
    ("model-list-fresh", "none", _lists({}, 33)),
    ("loop-stall", "300 ms", lambda h: h.add("stall", 12, worker=1, ms=300.0, raw_ms=310.0)),
    ("health-answers", "slow", _health(200, 1200.0)),
    ("health-answers", "an error", _health(500, 2.0)),
    ("health-answers", "no answer", _health(0, 2000.0)),
    ("ready-truthful", "not ready with nothing broken", _ready_no),
    ("ready-means-working", "ready, and its task runs on", _running("deaf", 25, 36.5)),
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
    ("stop-ends-task", _running("open", 44.5, None)),
    ("stop-is-truthful", lambda h: h.without(op="stop")),
    ("finished-unlisted", lambda h: h.without(op="list_tasks")),
    ("running-listed", lambda h: h.without(op="list_tasks")),
    ("no-unexplained-end", lambda h: h.without(k="stream")),
    ("tokens-exactly-once-in-order", lambda h: h.without(k="run").without(k="stream")),
    ("stream-end-told", lambda h: h.without(k="stream")),
    ("resync-hints-bounded", lambda h: h.without(k="socket")),
    ("canaries-delivered", lambda h: h.without(op="event_post", worker=1)),
    ("connections-bounded-and-back", lambda h: h.without(probe="worker", worker=1)),
    ("connections-kept", lambda h: h.without(probe="redis")),
    ("sockets-kept-and-back", lambda h: h.without(op="connect")),
    ("sockets-kept-and-back", _lost_at_the_end),
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


@pytest.mark.parametrize("name", ["stops", "sign_outs", "canaries_per_pair", "requests_per_s"])
def test_too_little_load_is_unknown(name: str, tmp_path: Path) -> None:
    """A minimum of the scenario that is not reached makes the run unknown."""
    finding = healthy(enough={name: 1000}).finding("enough-load", tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert name in finding.reason


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


EXCUSED: list[tuple[str, Change]] = [
    ("stop-ends-task", _running("slow", 11, HEAL + 4)),
    ("recovery", lambda h: h.op("me", KILL - 1, took=4, outcome="info", token="u0")),
    ("recovery", lambda h: h.op("me", SWITCH + 4, outcome="fail", token="u0")),
    (
        "ready-truthful",
        lambda h: h.add(
            "sample", 12, probe="health", worker=0, path="/ready", status=503, ms=1.0, sent=12.0
        ),
    ),
    ("workers-alive", lambda h: h.add("exit", 10, name="redis-0", status=-9, expected=True)),
    ("sign-out-honoured", _alive(17.5, "after")),
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
    ("config-agrees", _shows(0, 25)),
    ("config-agrees", _changed_in_the_fault),
    ("config-agrees", _undecided_change),
    ("ready-means-working", _running("slow", 25, 34)),
    ("ready-means-working", lambda h: (_running("deaf", 25, 36.5)(h), _ready_no(h))),
    ("nobody-lingers", lambda h: visit(h, "guest-1", 10, online=12)),
    ("limit-held", lambda h: tries(h, "limit-1", 12, 30)),
    ("limit-held", lambda h: tries(h, "limit-1", 30, 9, outcome="info")),
    ("model-list-fresh", _lists({"1": 20}, 26)),
    (
        "model-list-fresh",
        lambda h: h.op("models_refresh", 33, took=1, **TWICE) and _lists({}, 33.5)(h),
    ),
    ("connections-kept", _churn(1)),
    ("connections-kept", _growth),
    ("sockets-kept-and-back", _socket_lost(12, HEAL + 4, workers=[0])),
    ("sockets-kept-and-back", _socket_lost(12, 12.5, workers=[])),
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


def test_every_guarantee_is_covered_here() -> None:
    """Each guarantee has a defect that makes it red or unknown."""
    known = {n for n, _, _ in BROKEN} | {n for n, _ in THIN} | {"enough-load"}
    known |= {"others-undisturbed"}  # below, with a fault that spares a worker
    known |= {"faults-ridden-out"}  # below, with its bound
    assert known == set(names())
    assert END > HEAL > SWITCH > KILL


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
