"""Histories that were judged wrongly once: broken and green, kept and red, or proving nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.verdict import Verdict
from tests.unit import planted_changes as planted
from tests.unit.histories import COLLECT, END, HEAL, SWITCH, History, healthy, stream
from tests.unit.planted_changes import Change


def _second_fault(h: History, start: float, end: float, **fields: Any) -> History:
    """Add a fault beside the first one."""
    about = {"id": "f1", "kind": "cut", "target": "", "workers": [], **fields}
    for t, event in ((start, "inject"), (start, "confirm"), (end, "heal"), (end, "confirm_heal")):
        h.add("fault", t, event=event, evidence="so it was", **about)
    return h


def _drop(h: History, **fields: Any) -> History:
    """Take out whole operations whose invocation has all these fields."""
    asked = [r for r in h.records if r["k"] == "invoke" and fields.items() <= r.items()]
    gone = {r["id"] for r in asked}
    h.records = [r for r in h.records if r.get("id") not in gone or r["k"] == "fault"]
    return h


def _quiet_canaries(h: History, start: float, end: float, worker: int | None = None) -> None:
    """Let no canary arrive for a while: none at all, or none that concerns a worker."""
    h.records = [
        r
        for r in h.records
        if r["k"] != "canary"
        or not start < r["t"] < end
        or (worker is not None and worker not in (r["at"], r["origin"]))
    ]


def _words_reach_a_stranger(h: History) -> None:
    h.op("connect", 0.2, socket="u5-0", user=5)
    stream(h, "leaky", 20, 21).add("run", 21, stream="leaky", socket="u5-0", first=0, last=9, t0=20)


def _gap_beside_a_tab(h: History) -> None:
    h.op("connect", 0.2, socket="tab7-0", user=0)
    stream(h, "gap", 20, 21, runs=[(0, 3), (5, 9)])
    h.add("run", 21, stream="gap", socket="tab7-0", first=0, last=9, t0=20)


def _early_probe_answered_late(h: History) -> None:
    h.op("token_probe", 18.6, token="x1", worker=1, when="after", alive=True)
    h.op("token_probe", 17.2, took=1.7, token="x1", worker=1, when="after", alive=True)


def _always_short_lists(h: History) -> None:
    for record in h.records:
        if "versions" in record:
            record["versions"] = dict.fromkeys(record["versions"], 19)


def _unanswered_only_later(h: History) -> None:
    h.op("list_all_tasks", 21, tasks_now=["task-of-others"])
    h.op("chat_start", 30, outcome="info", stream="c9", user=0, socket="u0-0", tokens=10)


BROKEN: list[tuple[str, str, dict[str, float], Change]] = [
    ("tokens-exactly-once-in-order", "another user's socket", {}, _words_reach_a_stranger),
    ("tokens-exactly-once-in-order", "a gap, and a further tab", {}, _gap_beside_a_tab),
    (
        "session-read-your-writes",
        "invented, where losses are allowed",
        {"sessions_lost": 9},
        lambda h: h.op("session_read", 19, session="u0", value=7),
    ),
    (
        "canaries-delivered",
        "twice, where losses are allowed",
        {"tokens_lost": 9},
        lambda h: h.add("canary", 20, event="heard", n=24, origin=0, at=1, sent=12.1),
    ),
    (
        "no-unexplained-end",
        "acknowledged, and never ran",
        {},
        lambda h: h.op("chat_start", 25, stream="c9", user=0, socket="u0-0", tokens=10),
    ),
    ("model-list-whole", "the first one is short", {}, planted.lists({"1": 10}, 16.5)),
    ("model-list-whole", "all are short", {}, _always_short_lists),
    ("tasks-are-own", "before any unanswered start", {}, _unanswered_only_later),
    ("sign-out-honoured", "an early probe answered last", {}, _early_probe_answered_late),
]


@pytest.mark.parametrize(
    ("name", "bounds", "change"), [(n, b, c) for n, _, b, c in BROKEN], ids=[b[1] for b in BROKEN]
)
def test_what_breaks_a_guarantee_is_red(
    name: str, bounds: dict[str, float], change: Change, tmp_path: Path
) -> None:
    """None of these may hide behind an excuse, a bound for something else, or the order."""
    h = healthy(bounds=bounds)
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.examples[0].text


def _delayed_twice(h: History) -> None:
    h.op("config_write", HEAL - 1, value=5).op("config_read", 20, value=-1, worker=1)
    _second_fault(h, HEAL + 1.5, 25)


def _stop_delayed_twice(h: History) -> None:
    planted.running("slow", HEAL - 3, 24.5)(h)
    _second_fault(h, HEAL + 4, 24)


def _cut_off_at_the_end(h: History) -> None:
    h.add("invoke", COLLECT - 0.1, id="open", op="event_post", worker=0, n=999, origin=0)
    h.add("note", COLLECT + 12, level="info", text="teardown")


def _both_are_cut(h: History) -> None:
    for record in h.records:
        if record["k"] == "fault":
            record["workers"] = [1]
    _second_fault(h, 12, HEAL + 2, workers=[0])
    h.op("me", 11, token="u0", worker=0, alive=True)
    h.op("me", 13, outcome="fail", worker=0, token="u0")


def _cut_over_a_switch(h: History, until: float, silent: float) -> None:
    """Worker 1 is cut off while the primary fails over; nobody hears it until `silent`."""
    _second_fault(h, SWITCH - 1, until, workers=[1])
    _quiet_canaries(h, SWITCH - 1, silent, worker=1)


def _late_switch(h: History) -> None:
    h.without(k="switch").add(
        "switch", HEAL + 1.6, node="redis-1", observer="s", why="+switch-master"
    )
    h.op("me", HEAL + 6, outcome="fail", token="u0")


def _closed_again(h: History) -> None:
    planted.socket_lost(12, 23, workers=[])(h)
    _second_fault(h, HEAL + 1, 22, kind="balancer", closes_sockets=True)


KEPT: list[tuple[str, str, Change]] = [
    ("config-agrees", "a fault while the heal's time runs", _delayed_twice),
    ("stop-ends-task", "a fault while the heal's time runs", _stop_delayed_twice),
    ("sockets-kept-and-back", "closed again meanwhile", _closed_again),
    ("requests-end", "cut off by the end of the run", _cut_off_at_the_end),
    ("others-undisturbed", "its own fault at the same time", _both_are_cut),
    ("recovery", "a switch soon after the heal", _late_switch),
    ("deaf-time", "cut off while others switch", lambda h: _cut_over_a_switch(h, 20, 20)),
    (
        "recovery",
        "cut off while others switch",
        lambda h: (
            _cut_over_a_switch(h, 16.9, 16.9),
            h.op("me", SWITCH + 5.2, outcome="fail", worker=1, token="u0"),
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "change"), [(n, c) for n, _, c in KEPT], ids=[f"{n}: {why}" for n, why, _ in KEPT]
)
def test_what_keeps_a_guarantee_is_not_red(name: str, change: Change, tmp_path: Path) -> None:
    """A second fault delays as the first one does, and the end of the run is nobody's fault."""
    h = healthy()
    change(h)
    assert h.finding(name, tmp_path).verdict == Verdict.PASS


def test_a_worker_that_was_cut_off_must_hear_again_after_its_own_heal(tmp_path: Path) -> None:
    """A switch of Redis meanwhile is not the end of that fault."""
    h = healthy()
    _cut_over_a_switch(h, 20, 23)
    finding = h.finding("deaf-time", tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert "heal" in finding.examples[0].text


def _refused_nowhere(h: History) -> None:
    for when in ("after", "final"):
        _drop(h, op="token_probe", worker=1, when=when)
    h.op("token_probe", 42, token="x1", worker=1, when="final", alive=True)


def _refused_at_once(h: History) -> None:
    _drop(h, op="session_late")
    h.op("session_late", 20, outcome="fail", session="e0", value=2)


def _over_by_itself(h: History) -> None:
    _drop(h, op="stop")
    stream(h, "nearly", 20, 24)
    h.op("stop", 23.5, stream="nearly", by="task", outlives=False, state="requested")


def _never_opened(h: History) -> None:
    _drop(h, op="stop").op("stop", 25, stream="x", by="task", outlives=True, state="requested")


def _blocked_for_good(h: History) -> None:
    h.records = [r for r in h.records if r["k"] != "stall" or r["worker"] == 0 or r["t"] < 20]


def _listed_early_only(h: History) -> None:
    _drop(h, op="list_tasks").op("list_tasks", 6.5, stream="c1", tasks_now=["t1"])


def _not_asked_meanwhile(h: History) -> None:
    planted.running("deaf", 25, 36.5)(h)
    h.records = [r for r in h.records if r.get("path") != "/ready" or not 24 < r["t"] < 37]


def _deaf_all_along(h: History) -> None:
    h.without(k="canary", at=1).add("socket", 0.5, socket="canary-w1", event="lost", reason="")


def _nothing_sent(h: History) -> None:
    sent = [r for r in h.records if r.get("op") == "event_post" and SWITCH - 1 < r["t"] < HEAL]
    for record in sent:
        if record["k"] == "invoke":
            _drop(h, id=record["id"])
    _quiet_canaries(h, SWITCH - 1, HEAL)


def _log_only_afterwards(h: History) -> None:
    h.records = [
        r for r in h.records if r.get("probe") != "worker" or r["worker"] == 0 or r["t"] > END
    ]


def _looked_for_on_one_worker(h: History) -> None:
    for op in ("online_read", "usage_read"):
        _drop(h, op=op, worker=1)


THIN: list[tuple[str, Change]] = [
    ("nobody-lingers", _looked_for_on_one_worker),
    ("usage-ends", _looked_for_on_one_worker),
    ("sign-out-stays", _refused_nowhere),
    ("session-stays-removed", _refused_at_once),
    ("stop-ends-task", _over_by_itself),
    ("stop-ends-task", _never_opened),
    ("loop-stall", _blocked_for_good),
    ("finished-unlisted", _listed_early_only),
    ("ready-means-working", _not_asked_meanwhile),
    ("canaries-delivered", _deaf_all_along),
    ("deaf-time", _nothing_sent),
    ("logs-bounded", _log_only_afterwards),
    (
        "tokens-exactly-once-in-order",
        lambda h: h.add("socket", 2.5, socket="u0-0", event="lost", reason="reset"),
    ),
]


@pytest.mark.parametrize(
    ("name", "change"), THIN, ids=[f"{n}-{i}" for i, (n, _) in enumerate(THIN)]
)
def test_what_proves_nothing_is_unknown(name: str, change: Change, tmp_path: Path) -> None:
    """Neither green, for nothing was seen that could have been red, nor red for lack of a look."""
    h = healthy()
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert finding.reason
    assert not finding.reason.startswith("check crashed")
