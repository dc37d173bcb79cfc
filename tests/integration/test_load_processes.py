"""A load process against a small target: what it does, and what it writes down."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Worker
from harness.errors import UserError
from harness.load.accounts import Accounts
from harness.load.launch import start_load
from harness.load.prepare import prepare
from harness.plan import Plan, make_plan
from harness.scenario import Scenario
from harness.targets.base import SESSION_DATA, STOP_STATES
from harness.waiting import wait_for

HERE = Path(__file__).parent
HOSTS = ["127.95.7.50", "127.95.7.51", "127.95.7.52"]


class PlainProcess:
    """A child of the test, seen as a process of a run."""

    def __init__(self, name: str, log: Path, argv: list[str], env: dict[str, str]) -> None:
        self.name, self.log = name, log
        with log.open("wb") as out:
            self._popen = subprocess.Popen(argv, env=env, stdout=out, stderr=out)
        self.pid = self._popen.pid

    @property
    def exit_status(self) -> int | None:
        return self._popen.poll()

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    async def wait(self, deadline: float) -> int:
        await wait_for(lambda: self.exit_status is not None, deadline, f"{self.name} ends")
        return self._popen.returncode


class PlainSpawner:
    """Starts children and kills what is left of them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[PlainProcess] = []

    async def spawn(
        self, name: str, argv: list[str], env: dict[str, str], cwd: Path | None = None
    ) -> PlainProcess:
        process = PlainProcess(name, self._logs / f"{name}.log", argv, env)
        self._started.append(process)
        return process

    async def stop(self) -> None:
        for process in self._started:
            process.signal(signal.SIGKILL)
            await process.wait(5)


class PlainTarget:
    """Names the small target's capabilities."""

    name = "small"
    capabilities = frozenset({SESSION_DATA, STOP_STATES})


class Bench:
    """One run folder, one small target and its load."""

    def __init__(self, folder: Path, port: int) -> None:
        self.run = RunFolder.create(folder)
        self.clock = RunClock()
        self.spawner = PlainSpawner(self.run.logs)
        self.deployment = Deployment("standalone", PlainTarget(), "127.95.7")  # type: ignore[arg-type]
        self.deployment.workers = [
            Worker(number, host, port, str(number)) for number, host in enumerate(HOSTS)
        ]
        self.deployment.provider_url = self.deployment.workers[0].url
        self.port = port

    async def start_target(self, *flags: str) -> None:
        argv = [sys.executable, str(HERE / "load_target.py"), *HOSTS, *flags]
        await self.spawner.spawn(
            "target", [*argv, "--port", str(self.port)], {"PATH": os.defpath}
        )
        await wait_for(self._answers, 15, "target answers")

    async def _answers(self) -> bool:
        _, writer = await asyncio.open_connection(HOSTS[-1], self.port)
        writer.close()
        return True

    def plan(self, scenario: dict[str, Any], seed: int = 1) -> Plan:
        base = {
            "name": "small",
            "story": "users would see nothing of this",
            "topology": "standalone",
            "warmup_s": 0,
            "focus": {"stops_per_s": 4, "sign_outs_per_s": 4},
        }
        plan = make_plan(Scenario.model_validate(base | scenario), seed)
        self.run.plan.write_bytes(plan.to_json())
        return plan

    async def load(self, plan: Plan) -> list[str]:
        await prepare(self.deployment, plan, self.run, self.clock)
        load = await start_load(self.spawner, self.deployment, plan, self.run, self.clock)
        await load.ready(30)
        load.go(self.clock.now() + 0.2)
        return await load.finished(40)

    def history(self, source: str) -> list[dict[str, Any]]:
        lines = (self.run.history / f"{source}.jsonl").read_bytes().splitlines()
        return [orjson.loads(line) for line in lines]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench whose processes are gone afterwards."""
    with socket.create_server((HOSTS[0], 0)) as probe:
        port = probe.getsockname()[1]
    made = Bench(tmp_path / "run", port)
    yield made
    await made.spawner.stop()


def operations(records: list[dict[str, Any]]) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Return per operation its (invoke, completion) pairs."""
    ends = {r["id"]: r for r in records if r["k"] in ("ok", "fail", "info")}
    found: dict[str, list[tuple[dict[str, Any], Any]]] = defaultdict(list)
    for record in records:
        if record["k"] == "invoke":
            found[record["op"]].append((record, ends.get(record["id"])))
    return found


SMALL = {
    "duration_s": 3.0,
    "load": {
        "users": 6,
        "chats": {"tokens": 20, "tokens_per_s": 10},
        "think_s": [0.2, 0.4],
        "reads_per_s": 10,
    },
}


async def test_a_whole_load_leaves_every_operation_with_its_outcome(bench: Bench) -> None:
    """A healthy target: nothing fails, and each kind of operation was done as planned."""
    await bench.start_target()
    plan = bench.plan(SMALL)
    assert await bench.load(plan) == []

    records = bench.history("load-0")
    done = operations(records)
    for op, pairs in done.items():
        bad = [(i, c) for i, c in pairs if c is None or c["k"] != "ok"]
        assert not bad, f"{op}: {bad[:3]}"
    steps = [step.do for step in plan.timetable]
    assert len(done["stop"]) == steps.count("stop") > 5
    assert len(done["sign_out"]) == steps.count("sign_out") > 5
    assert sum("scheduled" in i for i, _ in done["me"]) == steps.count("read")
    assert {i["by"] for i, _ in done["stop"]} == {"task", "chat"}
    assert all(i["outlives"] for i, _ in done["stop"])


async def test_traffic_crosses_workers_and_tokens_become_runs(bench: Bench) -> None:
    """Chats are posted elsewhere than the socket is, stops elsewhere than the chat was posted."""
    await bench.start_target()
    await bench.load(bench.plan(SMALL))

    records = bench.history("load-0")
    done = operations(records)
    homes = {i["user"]: i["worker"] for i, _ in done["connect"]}
    owners = {i["stream"]: i["worker"] for i, _ in done["chat_start"]}
    assert all(i["worker"] != homes[i["user"]] for i, _ in done["chat_start"])
    assert all(i["worker"] != owners[i["stream"]] for i, _ in done["stop"])
    runs = {r["stream"]: r for r in records if r["k"] == "run"}
    ends = {r["stream"]: r["event"] for r in records if r["k"] == "end"}
    chats = [name for name in owners if name.startswith("c")]
    assert chats
    assert all((runs[c]["first"], runs[c]["last"], ends[c]) == (0, 19, "done") for c in chats)
    assert {ends[name] for name in owners if name.startswith("s")} == {"cancel"}
    reads = defaultdict(set)
    for invoke, end in done["session_read"]:
        reads[invoke["session"], end["value"]].add(invoke["worker"])
    assert all(workers == {0, 1, 2} for (_, value), workers in reads.items() if value is not None)
    accounts = Accounts.read(bench.run.accounts)
    assert len({a.address for a in (*accounts.users, *accounts.spare)}) == 6 + len(accounts.spare)


async def test_a_sign_out_that_does_nothing_is_seen_everywhere(bench: Bench) -> None:
    """Probes tell that an acknowledged sign-out left the token alive, on every worker, also last."""
    await bench.start_target("--deaf-sign-out")
    await bench.load(bench.plan(SMALL))

    probes = operations(bench.history("load-0"))["token_probe"]
    for when in ("before", "after", "final"):
        seen = {i["worker"] for i, c in probes if i["when"] == when and c["alive"]}
        assert seen == {0, 1, 2}, when


async def test_a_stop_that_does_nothing_lets_tokens_go_on(bench: Bench) -> None:
    """After a dead stop the socket goes on receiving and is never told an end."""
    await bench.start_target("--dead-stop")
    await bench.load(bench.plan(SMALL | {"load": SMALL["load"] | {"users": 2}}))

    records = bench.history("load-0")
    stopped = {i["stream"]: c["t"] for i, c in operations(records)["stop"]}
    runs = {r["stream"]: r["t"] for r in records if r["k"] == "run"}
    assert stopped
    assert all(runs[name] > acknowledged + 0.5 for name, acknowledged in stopped.items())
    assert not {r["stream"] for r in records if r["k"] == "end"} & stopped.keys()


async def test_a_killed_load_process_is_noticed_and_its_history_stays(bench: Bench) -> None:
    """SIGKILL of one of two processes: named as lost, its exit recorded, its records readable."""
    await bench.start_target()
    plan = bench.plan(SMALL | {"load": SMALL["load"] | {"processes": 2, "users": 4}})
    await prepare(bench.deployment, plan, bench.run, bench.clock)
    load = await start_load(bench.spawner, bench.deployment, plan, bench.run, bench.clock)
    await load.ready(30)
    load.go(bench.clock.now() + 0.2)
    await wait_for(lambda: load.status()["ops"] > 20, 15, "some operations done")
    load._processes[1].signal(signal.SIGKILL)
    assert await load.finished(40) == ["load-1"]

    exits = {r["name"]: r for r in bench.history("load") if r["k"] == "exit"}
    assert exits["load-0"]["expected"]
    assert exits["load-1"] | {"t": 0} == {
        "t": 0, "k": "exit", "name": "load-1", "status": -9, "expected": False
    }
    assert operations(bench.history("load-1"))["connect"]


async def test_sigterm_ends_a_load_early_with_its_history_flushed(bench: Bench) -> None:
    """A load that outlives its deadline is ended; it says so in its history."""
    await bench.start_target()
    plan = bench.plan(SMALL | {"duration_s": 30.0})
    await prepare(bench.deployment, plan, bench.run, bench.clock)
    load = await start_load(bench.spawner, bench.deployment, plan, bench.run, bench.clock)
    await load.ready(30)
    load.go(bench.clock.now() + 0.1)
    assert await load.finished(1.5) == ["load-0"]

    notes = [r["text"] for r in bench.history("load-0") if r["k"] == "note"]
    assert "load-0: ended early by SIGTERM" in notes
    assert [r for r in bench.history("load-0") if r["k"] == "run"]


async def test_a_load_that_cannot_connect_ends_the_run_with_its_log(bench: Bench) -> None:
    """A load process that dies before the start gives its last log lines."""
    await bench.start_target()
    plan = bench.plan(SMALL)
    await prepare(bench.deployment, plan, bench.run, bench.clock)
    bench.run.accounts.write_bytes(b"{}")
    load = await start_load(bench.spawner, bench.deployment, plan, bench.run, bench.clock)
    with pytest.raises(UserError, match=r"(?s)load-0 ended with status 1 .*KeyError"):
        await load.ready(30)


async def test_prepare_says_what_a_wrong_target_answered(bench: Bench) -> None:
    """A target that already has users is named with its answer, not with a traceback."""
    await bench.start_target()
    bench.deployment.workers[0].port = bench.port + 1
    bench.deployment.workers[0].host = "127.95.7.60"
    with pytest.raises(UserError, match=r"signup: expected 200 .* got 0 .*127\.95\.7\.60"):
        await prepare(bench.deployment, bench.plan(SMALL), bench.run, bench.clock)


async def test_load_goes_nowhere_but_to_this_machine(bench: Bench) -> None:
    """A worker elsewhere is refused before a byte is sent."""
    bench.deployment.workers[1].host = "192.0.2.1"
    with pytest.raises(UserError, match=r"192\.0\.2\.1.*127\.0\.0\.0/8"):
        await prepare(bench.deployment, bench.plan(SMALL), bench.run, bench.clock)
