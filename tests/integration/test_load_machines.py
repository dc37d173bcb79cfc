"""Load from other machines: two network namespaces, one with a clock of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import net_namespaces
import orjson
import pytest
from harness_cli import ROOT, command, environment, harness, only_run, scenario_text, summary
from net_namespaces import BRIDGE_ADDRESS, in_namespace

from harness.waiting import wait_for_sync

AHEAD_S = 5000
ALLOWED = ("--allow-host", BRIDGE_ADDRESS)
LOAD = {
    "load": "{users: 8, reads_per_s: 10, chats: {tokens: 10, tokens_per_s: 10}}",
    "duration_s": "4",
}
WAIT_S = 100  # less than the timeout of a test


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    """Yield two machines; without root or namespaces the tests are skipped by name."""
    if why := net_namespaces.missing():
        pytest.skip(why)
    with net_namespaces.machines(2) as made:
        yield made


@contextmanager
def started(log: Path, argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that is gone afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def master(folder: Path, port: int, **changes: str) -> list[str]:
    """Return the command of a run whose load comes from two machines."""
    scenario = folder / "quick.yaml"
    scenario.write_text(scenario_text(**LOAD, **changes))
    bind = ("--bind", f"{BRIDGE_ADDRESS}:{port}", *ALLOWED)
    return command("run", scenario, "--master", "--expect-workers", "2", *bind, "--reports", folder)


def worker(name: str, port: int, ahead_s: int = 0) -> list[str]:
    """Return the command of a load machine."""
    words = command("load-worker", "--master", f"{BRIDGE_ADDRESS}:{port}", *ALLOWED)
    return in_namespace(name, ahead_s, *words)


def headers(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the headers of the load processes' history files."""
    paths = sorted(only_run(folder).glob("history/load-[0-9].jsonl"))
    return {path.stem: orjson.loads(path.read_bytes().partition(b"\n")[0]) for path in paths}


def found(folder: Path, name: str) -> dict[str, Any]:
    """Return one finding of the run in a folder."""
    findings: Any = summary(folder)["findings"]
    return next(finding for finding in findings if finding["name"] == name)


def test_load_from_two_machines_is_one_history_on_one_clock(
    names: list[str], tmp_path: Path
) -> None:
    """Both machines' operations are judged together, although one clock is far ahead."""
    with (
        started(tmp_path / "master.log", master(tmp_path, 5600)) as run,
        started(tmp_path / "near.log", worker(names[0], 5600)) as near,
        started(tmp_path / "ahead.log", worker(names[1], 5600, AHEAD_S)) as ahead,
    ):
        run.wait(WAIT_S)
        assert (near.wait(20), ahead.wait(20)) == (0, 0)
    said = (tmp_path / "master.log").read_text()
    assert found(tmp_path, "load-healthy")["quantities"]["processes"] == 2, said
    assert "did not finish" not in found(tmp_path, "load-healthy")["reason"]
    heads = headers(tmp_path)
    bases = sorted(head["base"] for head in heads.values())
    assert abs(bases[1] - bases[0] - AHEAD_S) < 1
    assert all(0 < head["error"] < 0.5 and abs(head["offset"]) < 0.5 for head in heads.values())
    path = only_run(tmp_path)
    phases = orjson.loads((path / "run.json").read_bytes())["phases"]
    for name in heads:
        lines = (path / "history" / f"{name}.jsonl").read_bytes().splitlines()
        done = [r for line in lines if (r := orjson.loads(line))["k"] == "ok" and r["op"] == "me"]
        assert done
        assert all(phases["warmup"] - 1 < r["t"] < phases["teardown"] for r in done)


def test_a_load_machine_that_is_lost_makes_the_run_unknown(
    names: list[str], tmp_path: Path
) -> None:
    """One machine is killed under load: no heartbeats, an unknown verdict that names it."""
    ready = tmp_path / "run"
    ready.mkdir()
    with (
        started(tmp_path / "master.log", master(ready, 5700)) as run,
        started(tmp_path / "kept.log", worker(names[0], 5700)),
        started(tmp_path / "lost.log", worker(names[1], 5700)) as lost,
    ):
        wait_for_sync(lambda: list(ready.glob("*/data/start.json")), WAIT_S, "the load begins")
        kill_tree(lost.pid)
        run.wait(WAIT_S)
    finding = found(ready, "load-healthy")
    assert finding["verdict"] == "unknown", finding
    assert "did not finish" in finding["reason"]


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started, as when a machine loses power."""
    import psutil

    top = psutil.Process(pid)
    for process in (top, *top.children(recursive=True)):
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "baseline-standalone", "--master", "--bind", "192.0.2.7"),
        ("run", "baseline-standalone", "--master", "--bind", "0.0.0.0:5557"),
    ],
)
def test_a_master_listens_only_where_it_was_allowed(arguments: tuple[str, ...]) -> None:
    """An address that is not loopback has to be named."""
    ended = harness(*arguments)
    assert ended.returncode == 3
    assert "--allow-host" in ended.stderr
