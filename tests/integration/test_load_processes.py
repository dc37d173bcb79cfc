"""A load process against a small target: what it does, and what it writes down."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from load_bench import Bench, open_bench, operations

from harness.errors import UserError
from harness.load.accounts import Accounts
from harness.load.launch import start_load
from harness.load.prepare import prepare
from harness.load.watch import UNRECORDED
from harness.plan import Plan
from harness.waiting import wait_for


class Loaded:
    """A finished load: its plan, records, operations and accounts."""

    def __init__(self, bench: Bench, plan: Plan, lost: list[str]) -> None:
        self.plan, self.lost = plan, lost
        self.records = bench.history("load-0")
        self.done = operations(self.records)
        self.accounts = Accounts.read(bench.run.accounts)

    def last(self, k: str) -> dict[str, dict[str, Any]]:
        """Return per stream its last record of a kind."""
        return {r["stream"]: r for r in self.records if r["k"] == k}


def load_once(folder: Path, *flags: str) -> Loaded:
    """Do one whole load against the small target."""

    async def go() -> Loaded:
        async with open_bench(folder) as bench:
            await bench.start_target(*flags)
            plan = bench.plan()
            return Loaded(bench, plan, await bench.load(plan))

    return asyncio.run(go())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return a load against a target that does everything right."""
    return load_once(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Return a load against a target that acknowledges stops and sign-outs and does neither."""
    return load_once(tmp_path_factory.mktemp("broken"), "--dead-stop", "--deaf-sign-out")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench whose processes are gone afterwards."""
    async with open_bench(tmp_path) as made:
        yield made


def test_every_operation_of_a_healthy_target_succeeds(healthy: Loaded) -> None:
    """Nothing fails, nothing is left without outcome, and the process ends well."""
    assert healthy.lost == []
    for op, pairs in healthy.done.items():
        assert not [(i, c) for i, c in pairs if c is None or c["k"] != "ok"], op


def test_the_timetable_is_done_step_by_step(healthy: Loaded) -> None:
    """Each step of the plan is one operation with the time it was due."""
    steps = [step.do for step in healthy.plan.timetable]
    assert len(healthy.done["stop"]) == steps.count("stop") > 8
    assert len(healthy.done["sign_out"]) == steps.count("sign_out") > 8
    assert sum("scheduled" in i for i, _ in healthy.done["me"]) == steps.count("read") > 20
    assert {i["by"] for i, _ in healthy.done["stop"]} == {"task", "chat"}
    assert all(i["outlives"] for i, _ in healthy.done["stop"])


def test_traffic_crosses_workers(healthy: Loaded) -> None:
    """Chats are posted elsewhere than the socket is, stops elsewhere than the chat was posted."""
    done = healthy.done
    homes = {i["user"]: i["worker"] for i, _ in done["connect"]}
    owners = {i["stream"]: i["worker"] for i, _ in done["chat_start"]}
    assert all(i["worker"] != homes[i["user"]] for i, _ in done["chat_start"])
    assert all(i["worker"] != owners[i["stream"]] for i, _ in done["stop"])
    assert {i["worker"] for i, _ in done["stop"]} == {0, 1, 2}


def test_tokens_become_runs_and_ends(healthy: Loaded) -> None:
    """A finished chat is one run from 0 and `done`; a stopped stream is told `cancel`."""
    runs, ends = healthy.last("run"), healthy.last("end")
    names = [i["stream"] for i, _ in healthy.done["chat_start"]]
    chats = [name for name in names if name.startswith("c")]
    assert chats
    assert all(
        (runs[c]["first"], runs[c]["last"], ends[c]["event"]) == (0, 9, "done") for c in chats
    )
    assert {ends[name]["event"] for name in names if name.startswith("s")} == {"cancel"}


def test_sessions_are_read_back_on_every_worker(healthy: Loaded) -> None:
    """Each written value was read on all three workers."""
    reads = defaultdict(set)
    for invoke, end in healthy.done["session_read"]:
        reads[invoke["session"], end["value"]].add(invoke["worker"])
    written = {(i["session"], i["value"]) for i, _ in healthy.done["session_write"]}
    assert len(written) >= 6
    assert all(reads[write] == {0, 1, 2} for write in written)


def test_every_token_claims_its_own_address(healthy: Loaded) -> None:
    """Limits per address see as many clients as there are tokens."""
    accounts = [*healthy.accounts.users, *healthy.accounts.spare, healthy.accounts.canary]
    assert len({account.address for account in accounts}) == len(accounts)


def test_a_sign_out_that_does_nothing_is_seen_everywhere(broken: Loaded) -> None:
    """Probes find the token alive on every worker: before, after and at the end."""
    for when in ("before", "after", "final"):
        probes = broken.done["token_probe"]
        assert {i["worker"] for i, c in probes if i["when"] == when and c["alive"]} == {0, 1, 2}


def test_a_stop_that_does_nothing_lets_tokens_go_on(broken: Loaded) -> None:
    """After a dead stop the socket goes on receiving, is told no end, and the task stays listed."""
    stopped = {i["stream"]: c["t"] for i, c in broken.done["stop"]}
    runs = broken.last("run")
    assert len(stopped) > 8
    assert all(runs[name]["t"] > acknowledged + 0.5 for name, acknowledged in stopped.items())
    assert not broken.last("end").keys() & stopped.keys()
    final = [(i, c) for i, c in broken.done["list_tasks"] if i.get("when") == "final"]
    assert {i["stream"] for i, c in final if c["tasks"]} >= stopped.keys()


def reopened(records: list[dict[str, Any]]) -> bool:
    """Tell whether sockets were lost and each has a successor."""
    sockets = [(r["socket"], r["event"]) for r in records if r["k"] == "socket"]
    dropped = [name for name, event in sockets if event == "lost"]
    return bool(dropped) and all((f"{name[:-2]}-1", "opened") in sockets for name in dropped)


async def test_lost_processes_are_noticed_and_their_history_stays(bench: Bench) -> None:
    """One of two is killed, the other outlives the deadline and is ended with all flushed.

    Until then the target drops sockets: each loss is recorded, and a new socket is opened. Idle
    sockets are divided among the processes like users, and come back like theirs.
    """
    await bench.start_target("--drop")
    load = await bench.start(bench.plan(processes=2, idle_sockets=6))
    await load.ready(30)
    load.go(bench.clock.now() + 0.1)
    await wait_for(lambda: load.status()["ops"] > 20, 15, "some operations done")
    await wait_for(lambda: reopened(bench.history("load-0")), 5, "dropped sockets open again")
    load._processes[1].signal(signal.SIGKILL)
    assert await load.finished(0.3) == ["load-0", "load-1"]
    connects = [asked for asked, _ in operations(bench.history("load-0"))["connect"]]
    idle = {asked["socket"]: asked["worker"] for asked in connects}
    assert {n: w for n, w in idle.items() if n in ("tab0-0", "tab1-0", "tab2-0")} == {
        "tab0-0": 0,
        "tab1-0": 1,
        "tab2-0": 2,
    }
    assert not [name for name in idle if name.startswith("tab3")]

    exits = {r["name"]: (r["status"], r["expected"]) for r in bench.history("load") if "name" in r}
    assert exits == {"load-0": (128 + signal.SIGTERM, True), "load-1": (-signal.SIGKILL, False)}
    notes = [r["text"] for r in bench.history("load-0") if r["k"] == "note"]
    assert "load-0: ended early by SIGTERM" in notes
    assert [r for r in bench.history("load-0") if r["k"] == "run"]
    assert operations(bench.history("load-1"))["connect"]


async def test_a_load_whose_history_is_not_taken_ends(bench: Bench) -> None:
    """Its disk is full, or gone: load that is not recorded proves nothing, on any machine."""
    await bench.start_target()
    history = bench.run.history / "load-0.jsonl"
    os.mkfifo(history)
    reader = os.open(history, os.O_RDONLY | os.O_NONBLOCK)
    try:
        load = await bench.start(bench.plan(duration_s=600))
        await load.ready(30)
        load.go(bench.clock.now() + 0.1)
        await wait_for(lambda: load.status()["ops"] > 0, 15, "an operation is done")
    finally:
        os.close(reader)
    assert await load.finished(60) == ["load-0"]
    log = load._processes[0].log.read_text()
    assert load._processes[0].exit_status == UNRECORDED, log
    assert f"load-0 ends, its history is not taken: {history}: Broken pipe" in log


async def test_a_process_that_dies_before_the_start_shows_its_log(bench: Bench) -> None:
    """The user gets the process's last words."""
    await bench.start_target()
    plan = bench.plan()
    await prepare(bench.deployment, plan, bench.run, bench.clock)
    bench.run.accounts.write_bytes(b"{}")
    load = await start_load(bench.spawner, bench.deployment, plan, bench.run, bench.clock)
    with pytest.raises(UserError, match=r"(?s)load-0 ended with status 1 .*KeyError"):
        await load.ready(30)


async def test_prepare_says_what_a_wrong_target_answered(bench: Bench) -> None:
    """Nobody listens there: named with its URL, not with a traceback."""
    with pytest.raises(UserError, match=r"signup: expected 200 .* got 0 .*127\.95\.7\.50"):
        await prepare(bench.deployment, bench.plan(), bench.run, bench.clock)


async def test_load_goes_nowhere_but_to_this_machine(bench: Bench) -> None:
    """A worker elsewhere is refused before a byte is sent."""
    bench.deployment.workers[1].host = "192.0.2.1"
    with pytest.raises(UserError, match=r"192\.0\.2\.1.*127\.0\.0\.0/8"):
        await prepare(bench.deployment, bench.plan(), bench.run, bench.clock)


def test_users_hang_up_as_planned(healthy: Loaded) -> None:
    """Every planned one is sent and left after its time; who leaves at once hears no answer."""
    planned = [step for step in healthy.plan.timetable if step.do == "hang_up"]
    done = healthy.done["hang_up"]
    assert len(done) == len(planned) == 32
    assert all(end["k"] == "ok" for _, end in done)
    assert all(end["t"] - asked["t"] >= asked["after_s"] for asked, end in done)
    answered = {end["answered"] for _, end in done}
    assert answered == {True, False}
