"""Judging 1 000 000 operations (2 000 000 records in the demo's mix): ≤ 30 s, ≤ 1 GiB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.plan import make_plan
from harness.scenario import load_scenario

OPERATIONS = 1_000_000
ROOT = Path(__file__).resolve().parents[2]
SCENARIO = ROOT / "scenarios" / "sentinel-primary-crash.yaml"
SECONDS, WORKERS, USERS = 1000.0, 3, 50
MEASURE = """
import resource, sys
from harness.checks.judge import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _operation(n: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the n-th operation of the demo's mix: mostly reads, some chats, stops, sign-outs."""
    user, kind, chat = n % USERS, n % 20, n // 20
    session = {"session": f"u{user}"}
    if kind < 8:
        return "me", {"token": f"u{user}"}, {"alive": True}
    if kind < 11:
        return "session_read", session, {"value": None}
    if kind < 15:
        return "event_post", {"n": n, "origin": n % WORKERS}, {}
    table: dict[int, tuple[str, dict[str, Any], dict[str, Any]]] = {
        15: (
            "chat_start",
            {"stream": f"c{chat}", "user": user, "socket": f"u{user}-0", "tokens": 60},
            {"chat_id": f"chat-{chat}", "tasks": ["t"]},
        ),
        16: ("list_tasks", {"stream": f"c{chat}"}, {"tasks": ["t"]}),
        17: (
            "stop",
            {"stream": f"c{chat}", "by": "task", "outlives": True},
            {"state": "requested"},
        ),
        18: ("token_probe", {"token": f"x{chat // 9}", "when": "after"}, {"alive": False}),
        19: ("sign_out", {"token": f"x{chat // 9}", "account": "x"}, {}),
    }
    return table[kind]


def generate(folder: Path) -> None:
    """Write a run folder: operations, the provider's streams, token runs and probe samples."""
    history = folder / "history"
    history.mkdir(parents=True)
    plan = make_plan(load_scenario(SCENARIO), 1)
    (folder / "plan.json").write_bytes(plan.to_json())
    about = {"workers": WORKERS, "capabilities": ["session_data", "stop_states"]}
    (folder / "run.json").write_bytes(orjson.dumps(about))
    files = {name: (history / f"{name}.jsonl").open("wb") for name in ("load-0", "probes")}
    for name, file in files.items():
        head = {"t": 0.0, "k": "header", "source": name, "offset": 0.0, "error": 0.0}
        file.write(orjson.dumps(head) + b"\n")

    def write(source: str, k: str, t: float, **fields: Any) -> None:
        files[source].write(orjson.dumps({"t": t, "k": k, **fields}) + b"\n")

    for name, t in (("warmup", 0.0), ("load", 2.0), ("quiesce", SECONDS), ("collect", SECONDS + 5)):
        write("probes", "phase", t, name=name)
    for n in range(OPERATIONS):
        _write_one(write, n, n * SECONDS / OPERATIONS)
    for file in files.values():
        file.close()


def _write_one(write: Any, n: int, t: float) -> None:
    op, args, result = _operation(n)
    write("load-0", "invoke", t, id=f"load-0-{n}", op=op, worker=n % WORKERS, **args)
    write("load-0", "ok", t + 0.0005, id=f"load-0-{n}", op=op, **result)
    if op == "event_post":
        for at in range(WORKERS):
            write("probes", "canary", t, event="heard", origin=n % WORKERS, at=at, n=n, sent=t)
    elif op == "chat_start":
        write("probes", "stream", t, stream=args["stream"], event="open", sent=0, cause=None)
    elif op == "stop":
        name, socket = args["stream"], f"u{(n - 2) % USERS}-0"
        close = {"event": "close", "sent": 20, "cause": "client_closed"}
        write("probes", "stream", t, stream=name, **close)
        write("load-0", "run", t, stream=name, socket=socket, first=0, last=19, t0=t)
        write("load-0", "end", t, stream=name, socket=socket, event="cancel")


@pytest.mark.timeout(300)
def test_judge_a_million_operations(benchmark: Any, tmp_path: Path) -> None:
    """The verdict on a million operations comes from a whole pass over all of them."""
    run = tmp_path / "run"
    generate(run)
    peak: list[int] = []

    def judge() -> None:
        command = [sys.executable, "-c", MEASURE, str(run)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peak.append(int(done.stdout))

    benchmark.pedantic(judge, rounds=1, iterations=1)
    benchmark.extra_info["peak_mib"] = round(max(peak) / 1024)
    judgement = orjson.loads((run / "judgement.json").read_bytes())
    assert judgement["statistics"]["total_operations"] == OPERATIONS
    assert not [f["reason"] for f in judgement["findings"] if "crashed" in f["reason"]]
    assert max(peak) <= 1024 * 1024  # KiB
