"""A synthetic run for the report's tests: a Sentinel failover with a planted violation.

Worker 2 goes deaf at the kill and hears again 12 s later; one acknowledged stop stops nothing.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import orjson

from harness.checks.base import Example, Facts, FaultFact, Finding, Window
from harness.checks.judge import Judgement
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.history.writer import HistoryWriter
from harness.plan import make_plan
from harness.scenario import Scenario
from harness.verdict import Verdict

ORIGIN = 5.0  # load second 0 in run time
KILL, SWITCH, HEAL, END = 8.0, 9.62, 15.0, 26.0
DEAF_UNTIL = 20.1
WORKERS = 3


def scenario(**changes: object) -> Scenario:
    """Return the scenario of the synthetic run."""
    base = {
        "name": "sentinel-primary-crash",
        "story": "The Redis primary dies while people chat. Were it to fail, stop buttons would "
        "stop nothing and one worker's users would see no answers until they reload.",
        "topology": "sentinel",
        "faults": [{"at": 6, "kind": "kill", "target": "primary", "for_s": 7}],
        "duration_s": 24,
    }
    return Scenario.model_validate({**base, **changes})


def write_run(root: Path, planted: bool = True) -> RunFolder:
    """Write plan, run.json, history and a log; with `planted`, the violation is in the history."""
    run = RunFolder.create(root)
    run.plan.write_bytes(make_plan(scenario(), 7).to_json())
    about = {
        "scenario": "sentinel-primary-crash",
        "seed": 7,
        "topology": "sentinel",
        "workers": WORKERS,
        "target": "runtime",
        "versions": {"redis": "7.0.15", "python": "3.11.7"},
    }
    (run.root / "run.json").write_bytes(orjson.dumps(about))
    (run.logs / "w0.log").write_text("started\n")
    clock = RunClock()
    _conductor(HistoryWriter(run.history, "harness", clock))
    _users(HistoryWriter(run.history, "load-0", clock), planted)
    _probes(HistoryWriter(run.history, "probes", clock), planted)
    return run


def traced_run(root: Path) -> RunFolder:
    """Write a run with two traced operations; the span of the first has markup in its name."""
    run, trace, clock = write_run(root), "ab" * 16, RunClock()
    load = HistoryWriter(run.history, "load-9", clock)
    for number, took in ((1, 0.25), (2, 0.125)):
        identity, t = f"load-9-{number}", ORIGIN + 5 * number
        load.record(
            "invoke", t, id=identity, op="stop", worker=1, trace=trace[number:] + "0" * number
        )
        load.record("ok", t + took, id=identity, op="stop")
    load.close()
    spans = HistoryWriter(run.history, "spans", clock)
    about = {"trace": trace[1:] + "0", "span": "1", "parent": "", "worker": 1, "kind": "client"}
    attributes = {"db.system.name": "redis", "server.address": "127.9.9.10"}
    times = {"t": ORIGIN + 5.2, "t0": ORIGIN + 5.1}
    spans.record("span", **times, **about, name="<b>GET</b>", attributes=attributes)
    spans.close()
    return run


def _conductor(out: HistoryWriter) -> None:
    _phases(out)
    out.record("focus", ORIGIN + 6, event="begin")
    _fault(out)
    out.record("focus", ORIGIN + 25, event="end")
    _roles(out)
    out.record("note", ORIGIN + 1, text="<script>alert(1)</script>", level="warning")
    out.close()


def _phases(out: HistoryWriter) -> None:
    for t, name in (
        (-5, "deploy"),
        (-1, "prepare"),
        (0, "warmup"),
        (2, "load"),
        (END, "quiesce"),
        (END + 2, "collect"),
        (END + 2.5, "teardown"),
    ):
        out.record("phase", ORIGIN + t, name=name)


def _fault(out: HistoryWriter) -> None:
    """Record the kill from injection to the healed node, and the switch that it brings."""
    about = {"id": "f0", "kind": "kill", "name": "", "target": "primary"}
    hit: dict[str, list[str]] = {"nodes": ["redis-0"], "workers": []}

    def step(after: float, event: str, **evidence: str) -> None:
        out.record("fault", ORIGIN + after, event=event, **evidence, **about, **hit)

    step(KILL, "inject")
    step(KILL + 0.01, "confirm", evidence="process 4711 was killed")
    out.record(
        "switch", ORIGIN + SWITCH, node="redis-1", observer="sentinel-0", why="+switch-master"
    )
    step(HEAL, "heal")
    step(HEAL + 0.4, "confirm_heal", evidence="answers PING")


def _roles(out: HistoryWriter) -> None:
    for t, node, role in (
        (-3, "redis-0", "master"),
        (-3, "redis-1", "slave"),
        (-3, "redis-2", "slave"),
        (KILL, "redis-0", "down"),
        (SWITCH, "redis-1", "master"),
        (HEAL + 0.4, "redis-0", "slave"),
    ):
        out.record("role", ORIGIN + t, node=node, role=role)


def _users(out: HistoryWriter, planted: bool) -> None:
    rng = random.Random(1)
    ops = ("me", "me", "me", "chat_start", "list_tasks", "session_read", "stop", "sign_out")
    t = 0.0
    while t < END:
        t += rng.expovariate(60)
        op = rng.choice(ops)
        op = "me" if op in ("stop", "sign_out") and not 6 < t < 25 else op
        identity = f"load-0-{int(t * 1e6)}"
        out.record("invoke", ORIGIN + t, id=identity, op=op, worker=rng.randrange(3), user=3)
        took = rng.lognormvariate(math.log(0.006), 0.6)
        down = KILL < t < SWITCH + 0.3
        outcome = rng.choice(("ok", "info", "fail", "fail")) if down else "ok"
        took = took + rng.random() * 0.9 if down else took
        error = {"error": rng.choice(("http_503", "timeout"))} if outcome != "ok" else {}
        out.record(outcome, ORIGIN + t + took, id=identity, op=op, **error)
    if planted:
        stop = {"worker": 1, "stream": "s77", "by": "task", "outlives": True}
        out.record("invoke", ORIGIN + 9.0, id="planted-stop", op="stop", **stop)
        out.record("ok", ORIGIN + 9.2, id="planted-stop", op="stop", state="requested")
    out.close()


def _probes(out: HistoryWriter, planted: bool) -> None:
    step = 0.25
    for n in range(int(END / step)):
        for origin in range(WORKERS):
            _canary(out, n, n * step, origin, planted)
        for worker in range(WORKERS):
            _sample(out, n * step, worker, planted)
            if n % 2 == 0:
                _stall(out, n * step, worker, planted)
    out.close()


def _canary(out: HistoryWriter, n: int, t: float, origin: int, planted: bool) -> None:
    """Post the n-th canary of a worker, and have it heard by all that are not deaf."""
    about = {"op": "event_post", "n": n, "origin": origin, "worker": origin}
    out.record("invoke", ORIGIN + t, id=f"p{origin}-{n}", **about)
    out.record("ok", ORIGIN + t + 0.004, id=f"p{origin}-{n}", op="event_post")
    heard = SWITCH + 0.4 if KILL < t < SWITCH else t + 0.003
    about = {"event": "heard", "origin": origin, "n": n, "sent": ORIGIN + t}
    for at in range(WORKERS):
        if not (planted and at == 2 and KILL < t < DEAF_UNTIL):
            out.record("canary", ORIGIN + heard, at=at, **about)


def _sample(out: HistoryWriter, t: float, worker: int, planted: bool) -> None:
    """Sample a worker: all lose connections at the kill, worker 2 leaks some at the switch."""
    leak = 4 if worker == 2 and t > SWITCH and planted else 0
    down = 9 if KILL < t < SWITCH else 0
    connections = 12 + worker + leak - down
    rest = {"rss": 9e7, "fds": 40, "threads": 4, "cpu": 0.2}
    about = {"probe": "worker", "worker": worker, "connections": connections}
    out.record("sample", ORIGIN + t, **about, **rest)


def _stall(out: HistoryWriter, t: float, worker: int, planted: bool) -> None:
    stall = 310 if planted and worker == 2 and abs(t - SWITCH) < 0.3 else 4 + worker
    out.record("stall", ORIGIN + t, worker=worker, ms=stall, raw_ms=stall + 1)


def judgement(planted: bool = True, expected: Verdict = Verdict.PASS) -> Judgement:
    """Return what the checks say of the synthetic run."""
    findings = [_sign_outs(), _deaf_time(), _stops(), _connections(), _resync_hints()]
    if planted:
        _plant(*findings[1:4])
    verdict = Verdict.FAIL if planted else Verdict.PASS
    return Judgement(
        verdict=verdict,
        expected=expected,
        outcome="as_expected" if verdict == expected else "not_as_expected",
        findings=findings,
        facts=_facts(),
        statistics={"streams": 412, "canaries": 312},
    )


def _facts() -> Facts:
    during = Window(ORIGIN + KILL, ORIGIN + HEAL)
    return Facts(
        bounds={"loop_stall_ms": 250, "deaf_time_s": 2},
        enough={},
        workers=WORKERS,
        topology="sentinel",
        load=Window(ORIGIN, ORIGIN + END),
        faults=(FaultFact("f0", "kill", "", "primary", during, True, True),),
    )


def _sign_outs() -> Finding:
    sentence = "A signed-out token is refused by every worker."
    measured = {"sign_outs": 96, "slowest_s": 0.031}
    return Finding("sign-outs-honoured", "sessions", sentence, Verdict.PASS, measured, "1 s")


def _deaf_time() -> Finding:
    sentence = "Every worker hears every other within 2 s of the switch."
    return Finding("deaf-time", "delivery", sentence, Verdict.PASS, {"longest_s": 0.4}, "2 s")


def _stops() -> Finding:
    sentence = "An acknowledged stop closes the provider's stream."
    measured, bound = {"stops": 380, "lost": 0}, "2 s, 5 s after heal"
    return Finding("stops-effective", "tasks", sentence, Verdict.PASS, measured, bound)


def _connections() -> Finding:
    sentence = "Connections return to the baseline."
    about = ("connections-bounded", "connections", sentence)
    return Finding(*about, Verdict.PASS, {"over": 4}, "+2")


def _resync_hints() -> Finding:
    sentence = "A gap that cannot be closed is told."
    return Finding("resync-hints", "delivery", sentence, Verdict.PASS, applicable=False)


def _plant(deaf: Finding, stops: Finding, connections: Finding) -> None:
    """Turn the findings into those of a run with the violation."""
    deaf.verdict, deaf.quantities = Verdict.FAIL, {"longest_s": 12.08, "pairs": 3}
    deaf.reason = "worker 2 heard no canary for 12.1 s (bound 2 s)"
    deaf.examples = [
        Example("worker 2 did not hear worker 0", ORIGIN + 8.25, ["p0-33", "p0-34"]),
        Example("worker 2 did not hear worker 1", ORIGIN + 8.5, ["p1-34"]),
    ]
    stops.verdict, stops.quantities = Verdict.FAIL, {"stops": 380, "lost": 1}
    stops.reason = "1 acknowledged stop stopped nothing"
    what = "stream s77 ran on for 20 s after its stop | <b>was</b> acknowledged"
    stops.examples = [Example(what, ORIGIN + 9.2, ["planted-stop", "never-recorded"])]
    connections.verdict = Verdict.UNKNOWN
    connections.reason = "no baseline sample before the fault"
