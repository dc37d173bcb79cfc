"""The timeline: order, records, failures, cancellation; with faults that only take notes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.errors import UserError
from harness.faults import injector as module
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.context import FaultContext
from harness.faults.injector import Injector
from harness.faults.network import NO_LINKS
from harness.history.writer import HistoryWriter
from harness.plan import Plan, PlannedFault
from harness.scenario import Redis
from harness.waiting import wait_for


class Note(Fault):
    """Writes down what is done to it; fails at the step named in its spec."""

    kind: ClassVar[str] = "note"
    log: ClassVar[list[str]] = []

    def _do(self, step: str) -> None:
        if self.spec.get("fails") == step:
            raise FaultError(f"cannot {step}")
        self.log.append(f"{self.planned.id} {step}")

    async def aim(self) -> Aim:
        """Aim at one node."""
        self._do("aim")
        return Aim(["redis-0"], [1])

    async def inject(self) -> None:
        """Note it."""
        self._do("inject")

    async def confirm(self) -> str:
        """Note it."""
        self._do("confirm")
        return "seen"

    async def heal(self) -> None:
        """Note it, slowly enough to be interrupted."""
        await asyncio.sleep(0)
        self._do("heal")

    async def confirm_heal(self) -> str:
        """Note it."""
        self._do("confirm_heal")
        return "gone"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make the note fault a kind; return its log."""
    monkeypatch.setitem(module.KINDS, "note", Note)
    Note.log.clear()
    yield Note.log
    Note.log.clear()


class Bench:
    """An injector over planned faults, and the records that it writes."""

    def __init__(self, root: Path, *faults: PlannedFault) -> None:
        self.run = RunFolder.create(root)
        self.clock = RunClock()
        self.writer = HistoryWriter(self.run.history, "harness", self.clock)
        deployment = Deployment("standalone", None, "127.96.1")  # type: ignore[arg-type]
        context = FaultContext(None, None, Redis(), self.run, self.clock)  # type: ignore[arg-type]
        plan = Plan(7, {}, faults, (), ())
        self.injector = Injector(plan, deployment, context, self.writer, self.clock)

    def records(self) -> list[dict[str, Any]]:
        """Return the fault records."""
        self.writer.flush()
        lines = self.writer.path.read_bytes().splitlines()
        return [r for r in map(orjson.loads, lines) if r["k"] == "fault"]

    def events(self, identity: str = "f0") -> list[str]:
        """Return the events of one fault in order."""
        return [r["event"] for r in self.records() if r["id"] == identity]


def planned(identity: str = "f0", at: float = 0.0, until: float = 0.05, **spec: Any) -> Any:
    """Return a planned fault."""
    return PlannedFault(identity, at, until, {"kind": "note", "target": "primary", **spec})


async def test_a_fault_is_injected_confirmed_healed_and_confirmed_again(
    log: list[str], tmp_path: Path
) -> None:
    """Every step is recorded with its time, its aim and its evidence."""
    bench = Bench(tmp_path, planned(at=0.02, until=0.06, name="the fault"))
    t0 = bench.clock.now()
    await bench.injector.run(t0)
    assert log == ["f0 aim", "f0 inject", "f0 confirm", "f0 heal", "f0 confirm_heal"]
    inject, confirm, heal, last = bench.records()
    assert bench.events() == ["inject", "confirm", "heal", "confirm_heal"]
    assert (inject["name"], inject["nodes"], inject["workers"]) == ("the fault", ["redis-0"], [1])
    assert inject["t"] >= t0 + 0.02
    assert heal["t"] >= t0 + 0.06
    assert (confirm["evidence"], last["evidence"]) == ("seen", "gone")
    assert inject["loses_data"] is False


@pytest.mark.parametrize("step", ["aim", "inject", "confirm", "heal", "confirm_heal"])
async def test_a_step_that_fails_is_recorded_and_the_other_faults_go_on(
    log: list[str], tmp_path: Path, step: str
) -> None:
    """Event `error` names the step and the reason."""
    bench = Bench(tmp_path, planned(fails=step), planned("f1", at=0.01))
    await bench.injector.run(bench.clock.now())
    errors = [r for r in bench.records() if r["event"] == "error"]
    assert {r["id"] for r in errors} == {"f0"}
    assert errors[0]["step"] in (step, "inject")
    assert f"cannot {step}" in errors[0]["text"]
    assert bench.events("f1") == ["inject", "confirm", "heal", "confirm_heal"]


async def test_what_was_half_injected_is_healed(log: list[str], tmp_path: Path) -> None:
    """A failed injection may have hit some nodes; it is healed at its time."""
    bench = Bench(tmp_path, planned(fails="inject"))
    await bench.injector.run(bench.clock.now())
    assert "f0 heal" in log
    assert bench.injector.current is None


async def test_a_fault_that_was_not_aimed_is_not_healed(log: list[str], tmp_path: Path) -> None:
    """Nothing was done, so nothing is undone."""
    bench = Bench(tmp_path, planned(fails="aim"))
    await bench.injector.run(bench.clock.now())
    assert log == []


async def test_cancellation_heals_everything_injected(log: list[str], tmp_path: Path) -> None:
    """Both faults are under way; both are healed before the cancellation goes on."""
    bench = Bench(tmp_path, planned(until=60.0), planned("f1", until=60.0))
    task = asyncio.create_task(bench.injector.run(bench.clock.now()))
    await wait_for(lambda: "f1 confirm" in log and "f0 confirm" in log, 2, "both are injected")
    assert bench.injector.current == "note primary, note primary"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {"f0 heal", "f1 heal"} <= set(log)
    assert bench.events("f0")[-1] == "heal"
    assert bench.injector.current is None


async def test_a_second_cancellation_does_not_stop_the_healing(
    log: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C pressed twice still leaves nothing injected."""
    gate = asyncio.Event()

    async def slow_heal(self: Note) -> None:
        self.log.append("healing")
        await gate.wait()
        self._do("heal")

    monkeypatch.setattr(Note, "heal", slow_heal)
    bench = Bench(tmp_path, planned(until=60.0))
    task = asyncio.create_task(bench.injector.run(bench.clock.now()))
    await wait_for(lambda: "f0 confirm" in log, 2, "it is injected")
    task.cancel()
    await wait_for(lambda: "healing" in log, 2, "the heal has begun")
    task.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "f0 heal" in log


async def test_link_faults_without_links_are_named_before_the_run(tmp_path: Path) -> None:
    """`unavailable` says which fault and what is missing; injecting it is an error."""
    cut = PlannedFault(
        "f0",
        0.0,
        0.01,
        {"kind": "cut", "mode": "held", "target": "all-nodes", "workers": "worker:0"},
    )
    bench = Bench(tmp_path, cut)
    assert bench.injector.unavailable() == [f"fault f0 (cut held all-nodes) {NO_LINKS}"]
    await bench.injector.run(bench.clock.now())
    assert bench.events() == ["error"]


def test_an_unknown_kind_in_a_plan_is_a_users_mistake(tmp_path: Path) -> None:
    """The message names the fault, what came and what is known."""
    with pytest.raises(UserError, match=r"f0 has kind 'melt'; expected one of kill, pause"):
        Bench(tmp_path, PlannedFault("f0", 0.0, 1.0, {"kind": "melt", "target": "primary"}))
