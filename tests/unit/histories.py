"""A small language for planted histories: a healthy run of two workers, and what breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from harness.checks import all_checks
from harness.checks.base import Finding
from harness.checks.judge import Judgement, judge_run
from harness.deploy.folder import RunFolder
from harness.plan import make_plan
from harness.scenario import Scenario
from harness.vocabulary import LOADS

WORKERS = 2
KILL, SWITCH, HEAL, END, COLLECT = 10.0, 11.5, 15.0, 40.0, 46.0
Record = dict[str, Any]
AGREEMENT = dict.fromkeys(LOADS.values(), 1.0)  # so that everything applies
RESULTS = (
    "alive",
    "state",
    "sent",
    "tasks_now",
    "admitted",
    "versions",
    "models",
    "online",
    "in_use",
    "lost",
)


class History:
    """Records of one run, in any order; `judge` writes them as files and judges those."""

    def __init__(self, fault: bool = True, **scenario: Any) -> None:
        self.records: list[Record] = []
        self.about: dict[str, Any] = {"workers": WORKERS}  # what run.json says
        self.capabilities = ["session_data", "stop_states", "resync_hint", "ready"]
        self.capabilities += ["config", "sign_in_limit", "model_lists", "presence", "task_list"]
        faults = [{"kind": "kill", "target": "primary", "at": 8, "for_s": 5}] if fault else []
        self.scenario = Scenario.model_validate(
            {
                "name": "planted",
                "story": "A planted history that proves a check.",
                "topology": "sentinel",
                "workers": WORKERS,
                "duration_s": 40,
                "faults": faults,
                "focus": AGREEMENT,
                **scenario,
            }
        )
        self._n = 0
        self._frame(fault)

    def _frame(self, fault: bool) -> None:
        for name, t in (("warmup", 0), ("load", 2), ("quiesce", END), ("collect", COLLECT)):
            self.add("phase", t, name=name)
        self.add("focus", 2, event="begin").add("focus", 30, event="end")
        if fault:
            self.fault("inject", KILL).fault("confirm", KILL + 0.1, evidence="it died")
            self.add("switch", SWITCH, node="redis-1", observer="sentinel-0", why="+switch-master")
            self.fault("heal", HEAL - 0.1).fault("confirm_heal", HEAL, evidence="it is back")

    def add(self, k: str, t: float, **fields: Any) -> History:
        """Add any record."""
        self.records.append({"t": float(t), "k": k, **fields})
        return self

    def fault(self, event: str, t: float, **fields: Any) -> History:
        """Add a step of the only fault."""
        return self.add("fault", t, id="f0", event=event, kind="kill", target="primary", **fields)

    def op(
        self, op: str, t: float, took: float = 0.01, outcome: str = "ok", **fields: Any
    ) -> History:
        """Add an operation; arguments and results are given together."""
        self._n += 1
        worker = fields.pop("worker", 0)
        identity = f"op-{self._n}"
        result = {key: fields.pop(key) for key in RESULTS if key in fields}
        if "tasks_now" in result:
            result["tasks"] = result.pop("tasks_now")
        if op in ("session_read", "config_read", "session_again"):
            result["value"] = fields.pop("value")
        if op == "session_read":
            result["owner"] = fields.pop("owner", fields["session"])
        self.add("invoke", t, id=identity, op=op, worker=worker, **fields)
        return self.add(outcome, t + took, id=identity, op=op, **result)

    def without(self, **fields: Any) -> History:
        """Take out every record that has all these fields."""
        wanted = fields.items()
        self.records = [r for r in self.records if not wanted <= _plain(r).items()]
        return self

    def judge(self, folder: Path, *, cut: bytes = b"") -> Judgement:
        """Write plan, run.json and history; return the judgement. `cut` is a cut last line."""
        run = RunFolder.create(folder)
        run.plan.write_bytes(make_plan(self.scenario, 1).to_json())
        about = {**self.about, "capabilities": self.capabilities}
        (run.root / "run.json").write_bytes(orjson.dumps(about))
        header = {"t": 0.0, "k": "header", "source": "load-0", "base": 0, "offset": 0, "error": 0}
        lines = [header, *sorted(self.records, key=lambda r: r["t"])]
        data = b"\n".join(map(orjson.dumps, lines)) + b"\n" + cut
        (run.history / "load-0.jsonl").write_bytes(data)
        return judge_run(run)

    def finding(self, name: str, folder: Path) -> Finding:
        """Judge and return one guarantee's finding."""
        return next(f for f in self.judge(folder).findings if f.name == name)


def _plain(record: Record) -> Record:
    return {k: v for k, v in record.items() if isinstance(v, str | int | float)}


def stream(h: History, name: str, opened: float, closed: float | None, **fields: Any) -> History:
    """Add an acknowledged chat with its provider stream, tokens and end, all as they should be."""
    cause = fields.get("cause", "finished")
    sent = fields.get("sent", 10)
    asked = {"stream": name, "user": 0, "socket": "u0-0", "tokens": 10}
    h.op("chat_start", opened - 0.05, **asked, tasks_now=[f"task-{name}"])
    h.add("stream", opened, stream=name, event="open", sent=0, cause=None)
    if closed is None:
        return h
    h.add("stream", closed, stream=name, event="close", sent=sent, cause=cause)
    for first, last in fields.get("runs", [(0, sent - 1)]):
        h.add("run", closed, stream=name, socket="u0-0", first=first, last=last, t0=opened)
    event = "done" if cause == "finished" else "cancel"
    return h.add("end", closed + 0.02, stream=name, socket="u0-0", event=event)


def healthy(fault: bool = True, **scenario: Any) -> History:
    """Return a history in which every guarantee is kept, with evidence for each."""
    h = History(fault, **scenario)
    h.op("connect", 0.05, socket="u0-0", user=0)
    h.add("socket", 0.1, socket="u0-0", event="opened", reason="")
    stream(h, "c1", 3, 6)
    h.op("list_tasks", 5, stream="c1", tasks_now=["t1"])
    h.op("list_tasks", 13, stream="c1", tasks_now=[])
    for worker in range(WORKERS):
        h.op("list_all_tasks", 5, worker=worker, tasks_now=["task-c1"])
        h.op("list_all_tasks", 31, worker=worker, tasks_now=[])
    stream(h, "s1", 9, 10.5, cause="client_closed", sent=8)
    h.op("stop", 9.9, stream="s1", by="task", outlives=True, state="requested", worker=1)
    stream(h, "s2", 20, 21.5, cause="client_closed", sent=8)
    h.op("stop", 21.4, stream="s2", by="chat", outlives=True, state="requested")
    h.op("list_tasks", 30, stream="s2", tasks_now=[])
    _sessions(h)
    _agreement(h)
    ended_session(h, "e0", 20)
    visit(h, "guest-0", 20)
    _probes(h)
    h.add("note", COLLECT - 0.1, level="info", text="load-0: finished")
    return h


def _sessions(h: History) -> None:
    for worker in range(WORKERS):
        for when, t, alive in (("before", 16, True), ("after", 17.3, False), ("final", 42, False)):
            h.op("token_probe", t, token="x1", worker=worker, when=when, alive=alive)
        h.op("session_read", 18, session="u0", worker=worker, value=1)
        h.op("me", 18, token="u0", worker=worker, alive=True)
    h.op("sign_out", 17, account="x1", token="x1", worker=0)
    h.op("session_write", 17.5, session="u0", value=1)


def _agreement(h: History) -> None:
    """Two changes of the configuration, an account tried beyond its limit, two model lists."""
    h.op("config_write", 17, value=0).op("config_write", 24, value=1, worker=1)
    h.op("models_refresh", 17, version=1, versions={"1": 20}, models=21)
    h.op("models_refresh", 24, version=2, versions={"2": 20}, models=21, worker=1)
    for worker in range(WORKERS):
        for number, t in ((0, 20.0), (1, 30.0)):
            h.op("config_read", t, value=number, worker=worker)
            listed = {str(number + 1): 20}
            h.op("models_read", t + 1, versions=listed, models=21, worker=worker)
    tries(h, "limit-0", 26, 15)


def tries(h: History, account: str, t: float, admitted: int, denied: int = 4, **how: Any) -> None:
    """Add attempts on one account, first those that are admitted."""
    for number in range(admitted + denied):
        fields = {"account": account, "wave": 0, "worker": number % WORKERS}
        h.op("sign_in_try", t + number / 100, admitted=number < admitted, **fields, **how)


def ended_session(h: History, name: str, t: float, found: int | None = None) -> None:
    """Add a sign-out that overtakes a request of its session, and looks for the session."""
    h.op("session_late", t, took=0.5, session=name, value=2)
    h.op("session_end", t + 0.1, session=name, worker=1)
    for worker in range(WORKERS):
        h.op("session_again", t + 1, session=name, worker=worker, value=found)


def visit(
    h: History,
    guest: str,
    t: float,
    online: float = 0.5,
    in_use: float = 0.5,
    *,
    worker: int = 0,
    lost: bool = False,
) -> None:
    """Add a visit of 2 s; the guest is shown as there for so many seconds more."""
    h.op("visit", t, took=2, guest=guest, worker=worker, lost=lost)
    h.op("online_read", t + 1, guest=guest, online=True)
    h.op("usage_read", t + 1, guest=guest, in_use=True)
    for tick in range(16):
        sent = t + 2.1 + tick
        for asked in range(WORKERS):
            h.op("online_read", sent, guest=guest, worker=asked, online=tick < online)
            h.op("usage_read", sent, guest=guest, worker=asked, in_use=tick < in_use)


def _probes(h: History) -> None:
    for tick in range(int(COLLECT * 2)):
        t = tick / 2
        if t % 1 == 0:
            h.add("sample", t, probe="load", process=0, late_ms=3.0)
            h.add("sample", t, probe="redis", node="redis-0", received=20, clients=12)
        for worker in range(WORKERS):
            h.op("event_post", t + 0.1, n=tick, origin=worker, worker=worker)
            for at in range(WORKERS):
                h.add("canary", t + 0.12, event="heard", n=tick, origin=worker, at=at, sent=t + 0.1)
            h.add("sample", t, probe="worker", worker=worker, connections=12, log=int(t * 100))
            h.add("stall", t, worker=worker, ms=4.0, raw_ms=5.0)
            for path in ("/health", "/ready"):
                fields = {"worker": worker, "path": path, "status": 200, "ms": 3.0, "sent": t}
                h.add("sample", t, probe="health", **fields)


def names() -> list[str]:
    """Return every guarantee."""
    return [check.name for check in all_checks()]
