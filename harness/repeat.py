"""Runs scenarios again and again, and counts how often each passed in a row.

Each run adds one line to reports/repeat.jsonl (commit, date, seed, verdict, what was left running),
so the count can be gathered in parts; a red or unknown run restarts its scenario's count.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import psutil

from harness.clock import monotonic
from harness.deploy import engine, sweeper
from harness.errors import UserError
from harness.options import RunOptions, RunResult, load_with_options
from harness.progress import Progress
from harness.run import run_scenario
from harness.verdict import ExitCode

Line = dict[str, Any]


def passed(line: Line) -> bool:
    """Tell whether a recorded run counts: as expected, and nothing left running."""
    return bool(line["exit_code"] == ExitCode.AS_EXPECTED and not line["left_running"])


def in_a_row(lines: Iterable[Line]) -> dict[str, int]:
    """Return, per scenario, how many runs passed since its last red or unknown one."""
    counts: dict[str, int] = {}
    for line in lines:
        name = line["scenario"]
        counts[name] = counts.get(name, 0) + 1 if passed(line) else 0
    return counts


def read_lines(path: Path) -> list[Line]:
    """Return the recorded runs; none when nothing was recorded yet."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


async def repeat(paths: list[Path], times: int, options: RunOptions, progress: Progress) -> bool:
    """Run every scenario until each passed `times` in a row; return whether each did.

    Scenarios take turns, so that a slow drift of the machine hits all of them alike. A run that
    does not pass restarts its scenario's count; after `times` rounds it is enough for one call.
    """
    options.reports.mkdir(parents=True, exist_ok=True)
    record = options.reports / "repeat.jsonl"
    names = {path: _name(path, options) for path in paths}
    for _ in range(times):
        for path, name in _missing(names, times, record).items():
            line = await _once(path, len(read_lines(record)) + 1, options, progress)
            _append(record, {**line, "scenario": name})
            count = in_a_row(read_lines(record))[name]
            progress.note(_sentence(line, count, times))
    return not _missing(names, times, record)


def _name(path: Path, options: RunOptions) -> str:
    """Return what is counted: a scenario on containers is counted apart."""
    host = load_with_options(path, options).host
    return path.stem if host == "processes" else f"{path.stem} on {host}"


def _missing(names: dict[Path, str], times: int, record: Path) -> dict[Path, str]:
    counts = in_a_row(read_lines(record))
    return {path: name for path, name in names.items() if counts.get(name, 0) < times}


async def _once(path: Path, seed: int, options: RunOptions, progress: Progress) -> Line:
    """Run once; a target that does not even start counts as a run that did not pass."""
    started, line = monotonic(), _blank(path, seed)
    try:
        result = await run_scenario(path, replace(options, seed=seed), progress)
    except UserError as error:
        progress.note(str(error))
        line.update(verdict="not started", exit_code=int(ExitCode.USER_ERROR))
    else:
        line.update(_outcome(result))
    return {**line, "seconds": round(monotonic() - started, 1)}


def _blank(path: Path, seed: int) -> Line:
    return {
        "scenario": path.stem,
        "commit": commit(),
        "date": now(),
        "seed": seed,
        "red": [],
        "left_running": [],
    }


def _outcome(result: RunResult) -> Line:
    return {
        "verdict": str(result.judgement.verdict) if result.judgement else "skipped",
        "exit_code": int(result.exit_code),
        "red": _not_passed(result),
        "left_running": left_running(result),
    }


def _append(record: Path, line: Line) -> None:
    with record.open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


def _not_passed(result: RunResult) -> list[str]:
    findings = result.judgement.findings if result.judgement else []
    return [f.name for f in findings if f.applicable and f.verdict != "pass"]


def left_running(result: RunResult) -> list[str]:
    """Return processes that name the run's folder, its containers, and its addresses in use."""
    if result.run is None:
        return []
    folder = str(result.run.root.resolve())
    found = [
        f"process {p.pid} {' '.join(p.info['cmdline'])[:120]}"
        for p in psutil.process_iter(["cmdline"])
        if folder in " ".join(p.info["cmdline"] or [])
    ]
    path = result.run.root / "run.json"
    facts = orjson.loads(path.read_bytes()) if path.exists() else {}
    if facts.get("host") == "containers":
        found += _containers(folder)
    return found + _in_use(facts.get("nodes", {}))


def _containers(folder: str) -> list[str]:
    left = sweeper.containers(engine.socket_path(), f"{sweeper.RUN}={folder}")
    return [f"container {' '.join(each['Names'])} is {each['State']}" for each in left]


def _in_use(nodes: dict[str, str]) -> list[str]:
    subnets = {address.rsplit(".", 1)[0] + "." for address in nodes.values()}
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return [
        f"address {address.ip}:{address.port} is still listened on"
        for address in listening
        if address and any(address.ip.startswith(subnet) for subnet in subnets)
    ]


def now() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def commit() -> str:
    """Return the commit; what lies in reports/ (this record, runs) does not make it dirty."""
    commit = _git("describe", "--always")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!reports")
    return (commit or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _sentence(line: Line, count: int, times: int) -> str:
    if passed(line):
        return f"{line['scenario']}: {line['verdict']}, {count} of {times} in a row"
    why = ", ".join(line["red"] + line["left_running"])
    return (
        f"{line['scenario']}: {line['verdict']} (seed {line['seed']}): {why}; count restarts at 0"
    )
