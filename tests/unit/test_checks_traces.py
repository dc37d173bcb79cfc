"""The guarantees about traces: kept by whole traces, broken by planted gaps, unknown when thin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.verdict import Verdict
from harness.vocabulary import TRACED
from tests.unit.histories import COLLECT, HEAL, KILL, healthy
from tests.unit.traced_history import OTHER_REDIS, TracedHistory, chat, read, stop, traced

Change = Callable[[TracedHistory], object]


@pytest.mark.parametrize("name", sorted(TRACED))
def test_whole_traces_keep_the_guarantee(name: str, tmp_path: Path) -> None:
    """Also with a fault that has nothing to do with them, long before."""
    finding = traced(fault=True).finding(name, tmp_path)
    assert (finding.verdict, finding.applicable) == (Verdict.PASS, True), finding.reason
    assert finding.quantities["broken"] == 0
    assert finding.quantities["traces"] >= 2


def test_quantities_tell_servers_and_times(tmp_path: Path) -> None:
    """How many Redis servers were named, and how soon the other worker went on."""
    h = traced()
    read(h, "elsewhere", 22, address=OTHER_REDIS)
    found = {f.name: f.quantities for f in h.judge(tmp_path).findings}
    assert found["traces-reach-redis"]["servers_named"] == 2
    assert found["traces-reach-redis"]["with_redis"] == 5
    assert found["stop-trace-crosses"]["crossed_ms_max"] == 4.0
    assert found["answer-trace-crosses"]["crossed_ms_max"] == 10.0


BROKEN: list[tuple[str, str, Change]] = [
    ("traces-reach-redis", "no command to Redis", lambda h: h.without(span="GET", trace="stop-c0")),
    ("traces-reach-redis", "no command to Redis", lambda h: h.without(span="GET", trace="read-0")),
    ("traces-reach-redis", "no span of the request", lambda h: h.without(trace="read-1", k="span")),
    ("traces-reach-redis", "of a request that needs none", lambda h: h.op("me", 21, trace="x")),
    (
        "traces-reach-redis",
        "hangs in the air",
        lambda h: read(h, "loose", 22, parent="nobody"),
    ),
    (
        "traces-reach-redis",
        "no server of the run",
        lambda h: read(h, "strange", 22, address="10.0.0.1:6379"),
    ),
    (
        "traces-reach-redis",
        "its span is of worker 1",
        lambda h: h.op("me", 22, trace="other").span("other", "r", 22, kind="server", worker=1),
    ),
    (
        "stop-trace-crosses",
        "no span of worker 0",
        lambda h: h.without(span="received-0", trace="stop-c0"),
    ),
    (
        "stop-trace-crosses",
        "hangs in the air",
        lambda h: h.without(span="received-0", trace="stop-c0").received(
            "stop-c0", 30.004, 0, parent="lost"
        ),
    ),
    (
        "answer-trace-crosses",
        "no span of worker 0",
        lambda h: h.without(span="received-0", trace="chat-c1"),
    ),
]


@pytest.mark.parametrize(
    ("name", "words", "change"), BROKEN, ids=[f"{n}: {why}" for n, why, _ in BROKEN]
)
def test_a_gap_in_a_trace_is_red(name: str, words: str, change: Change, tmp_path: Path) -> None:
    """One is enough; the example names the operation and its trace, and says what is missing."""
    h = traced()
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.quantities["broken"] == 1
    if "needs none" not in words:
        assert words in finding.examples[0].text
    assert finding.examples[0].operations


THIN: list[tuple[str, str, Change]] = [
    *((name, "counted nothing", lambda h: h.without(probe="collector")) for name in sorted(TRACED)),
    *(
        (name, "3 dropped", lambda h: h.without(probe="collector").counted(dropped=3))
        for name in sorted(TRACED)
    ),
    ("traces-reach-redis", "from worker 0, 1", lambda h: h.without(k="invoke").without(k="ok")),
    ("stop-trace-crosses", "from worker 1", lambda h: h.without(trace="stop-c0", k="invoke")),
    ("answer-trace-crosses", "from worker 0", lambda h: h.without(k="run", stream="c0")),
]


@pytest.mark.parametrize(
    ("name", "words", "change"), THIN, ids=[f"{n}: {why}" for n, why, _ in THIN]
)
def test_thin_evidence_is_unknown(name: str, words: str, change: Change, tmp_path: Path) -> None:
    """Spans that were not kept excuse nothing and prove nothing."""
    h = traced()
    change(h)
    asked = {r["id"] for r in h.records if r["k"] == "invoke"}
    h.records = [r for r in h.records if r["k"] != "ok" or r["id"] in asked]
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.UNKNOWN
    assert words in finding.reason


def test_a_gap_is_not_red_while_spans_were_dropped(tmp_path: Path) -> None:
    """The missing one may be among them."""
    h = traced().without(span="GET", trace="read-0").without(probe="collector")
    assert isinstance(h, TracedHistory)
    found = h.counted(dropped=1).finding("traces-reach-redis", tmp_path)
    assert found.verdict == Verdict.UNKNOWN


EXCUSED: list[tuple[str, str, Change]] = [
    (
        "stop-trace-crosses",
        "a stop during the fault, which the database carried",
        lambda h: (chat(h, "x", 9, 0), stop(h, "x", KILL + 1, 1), _drop(h, "stop-x")),
    ),
    (
        "traces-reach-redis",
        "a stop during the fault, accepted without Redis",
        lambda h: (stop(h, "x", KILL + 1, 1), h.without(trace="stop-x", span="GET")),
    ),
    (
        "traces-reach-redis",
        "a stop of what the database knows to have ended",
        lambda h: (stop(h, "x", 33, 1, "not_found"), h.without(trace="stop-x", span="GET")),
    ),
    (
        "stop-trace-crosses",
        "a stop of what had ended",
        lambda h: (chat(h, "x", 30, 0), stop(h, "x", 33, 1, "finished"), _drop(h, "stop-x")),
    ),
    (
        "stop-trace-crosses",
        "a stop on the owner itself",
        lambda h: (chat(h, "x", 30, 0), stop(h, "x", 33, 0), _drop(h, "stop-x")),
    ),
    (
        "answer-trace-crosses",
        "no word reached the socket",
        lambda h: (chat(h, "x", 30, 0), h.without(k="run", stream="x"), _drop(h, "chat-x")),
    ),
]


def _drop(h: TracedHistory, trace: str) -> None:
    for worker in (0, 1):
        h.without(trace=trace, span=f"received-{worker}")


@pytest.mark.parametrize(
    ("name", "why", "change"), EXCUSED, ids=[f"{n}: {why}" for n, why, _ in EXCUSED]
)
def test_what_needs_no_crossing_is_excused(
    name: str, why: str, change: Change, tmp_path: Path
) -> None:
    """The others of the history are still judged, and kept."""
    h = traced(fault=True)
    change(h)
    finding = h.finding(name, tmp_path)
    assert finding.verdict == Verdict.PASS, f"{why}: {finding.reason}"


def test_a_read_without_redis_is_red_also_during_a_fault(tmp_path: Path) -> None:
    """Only stops are answered without Redis."""
    h = traced(fault=True)
    h.request("session_read", "x", KILL + 1, session="u0", value=1)
    assert h.finding("traces-reach-redis", tmp_path).verdict == Verdict.FAIL
    assert HEAL > KILL + 1


def traced_with_killed(worker: int) -> TracedHistory:
    """Return a traced history in which a worker is killed, and started again at the heal."""
    fault = {"kind": "worker-kill", "at": 8, "for_s": 5, "workers": f"worker:{worker}"}
    h = traced(faults=[fault])
    for event in ("inject", "confirm", "heal", "confirm_heal"):
        at = KILL if event in ("inject", "confirm") else HEAL
        what = {"kind": "worker-kill", "workers": [worker], "evidence": "gone"}
        h.add("fault", at, id="f0", event=event, target="", **what)
    return h


def test_spans_of_a_killed_worker_are_excused(tmp_path: Path) -> None:
    """It had no time to send them; a worker that lives has."""
    h = traced_with_killed(1)
    h.op("me", KILL - 1, worker=1, trace="dead")
    finding = h.finding("traces-reach-redis", tmp_path)
    assert finding.verdict == Verdict.PASS, finding.reason
    assert finding.quantities["died_before_export"] == 1
    h.op("me", KILL - 1, worker=0, trace="alive")
    assert h.finding("traces-reach-redis", tmp_path / "2").verdict == Verdict.FAIL


def test_the_span_of_an_answer_may_die_long_after_its_request(tmp_path: Path) -> None:
    """It is sent when the answer is whole; the words that came before name it as their parent."""
    h = traced_with_killed(0)
    chat(h, "x", KILL - 5, 0)
    h.without(trace="chat-x", span="received-1")
    h.received("chat-x", KILL - 4.9, 1, parent="answer")
    assert h.finding("answer-trace-crosses", tmp_path).verdict == Verdict.FAIL
    h.add("run", KILL - 0.5, stream="x", socket="s-x", first=5, last=9, t0=KILL - 1)
    finding = h.finding("answer-trace-crosses", tmp_path / "2")
    assert finding.verdict == Verdict.PASS, finding.reason
    assert finding.quantities["died_before_export"] == 1


def test_spans_of_the_last_two_seconds_are_excused(tmp_path: Path) -> None:
    """Workers are ended then; what is missing from before is red."""
    h = traced()
    h.op("me", COLLECT - 1, trace="last")
    finding = h.finding("traces-reach-redis", tmp_path)
    assert finding.verdict == Verdict.PASS, finding.reason
    assert finding.quantities["died_before_export"] == 1
    h.op("me", COLLECT - 3, trace="before")
    assert h.finding("traces-reach-redis", tmp_path / "2").verdict == Verdict.FAIL


@pytest.mark.parametrize("name", sorted(TRACED))
def test_without_telemetry_they_do_not_apply(name: str, tmp_path: Path) -> None:
    """The reason says which key turns it on."""
    h = healthy()
    h.capabilities.append("traces")
    finding = h.finding(name, tmp_path)
    assert not finding.applicable
    assert "telemetry: on" in finding.reason
