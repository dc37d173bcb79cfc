"""The whole flow of one scenario: plan, deploy, load with faults and probes, judge, report."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.parts import missing_part
from harness.deploy.spawner import Guardian
from harness.deployer import Deployer
from harness.faults.context import FaultContext
from harness.faults.injector import Injector
from harness.history.writer import HistoryWriter
from harness.load.abort import AbortWatch
from harness.load.launch import LoadProcesses, start_load
from harness.load.machines import start_machines
from harness.manifest import Manifest
from harness.neighbour import neighbour
from harness.options import RunOptions, RunResult, load_with_options
from harness.plan import Plan, load_seconds, make_plan
from harness.probes import Probes
from harness.progress import Progress
from harness.scenario import Scenario
from harness.targets.choose import make_subject
from harness.targets.external.attach import Attached
from harness.targets.subject import Subject
from harness.waiting import beside

FLUSH_PERIOD_S = 0.1
LEAD_S = 0.3  # between "go" and load second 0: every load process has read the start file by then
LOAD_READY_S = 60.0
MACHINES_READY_S = 600.0  # people start load machines by hand
QUIESCE_S = 30.0  # streams may finish, signed-out tokens are tried once more on every worker
JUDGE_S = 120.0


async def run_scenario(path: Path, options: RunOptions, progress: Progress) -> RunResult:
    """Run one scenario file from plan to report; raise UserError or MissingPart.

    Whatever was started is gone when this returns or raises, also when it is cancelled.
    """
    scenario = load_with_options(path, options)
    return await run_plan(scenario, make_plan(scenario, options.seed), options, progress)


async def run_plan(
    scenario: Scenario, plan: Plan, options: RunOptions, progress: Progress
) -> RunResult:
    """Run a plan that was made before, by this call's caller or by a saved run."""
    if options.external is None and (missing := missing_part(scenario)):
        return RunResult.skip(missing)
    subject = await asyncio.to_thread(make_subject, scenario, options, progress.note)
    if subject.unsuited:
        return RunResult.skip(subject.unsuited)
    run = RunFolder.create(_folder(options.reports, scenario.name))
    run.plan.write_bytes(plan.to_json())
    progress.note(f"plan: seed {plan.seed}, {len(plan.timetable)} timed steps, {run.plan}")
    try:
        await Conductor(scenario, plan, run, options, progress, subject).perform()
    finally:
        if not options.keep_data:
            shutil.rmtree(run.data, ignore_errors=True)
    return await judge(run, progress)


async def judge(run: RunFolder, progress: Progress) -> RunResult:
    """Judge a saved run in a bounded process of its own and write its reports."""
    from harness.checks.judge import judge_in_process
    from harness.report import point_latest, write_reports
    from harness.report.words import code_of

    progress.phase("judge")
    judgement = await judge_in_process(run, JUDGE_S)
    progress.phase("report")
    await asyncio.to_thread(write_reports, run, judgement)
    point_latest(run.root.parent, run)
    return RunResult(run, judgement, None, code_of(judgement))


def _folder(reports: Path, name: str) -> Path:
    """Return a folder that does not exist yet: two runs may start in the same second."""
    stem = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{name}"
    root, number = reports / stem, 1
    while root.exists():
        number += 1
        root = reports / f"{stem}-{number}"
    return root


class Conductor:
    """Deploys, prepares, loads and tears down one run; writes the harness's own history file."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        run: RunFolder,
        options: RunOptions,
        progress: Progress,
        subject: Subject,
    ) -> None:
        self.scenario = scenario
        self.plan = plan
        self.run = run
        self.options = options
        self.progress = progress
        self.clock = RunClock()
        self.writer = HistoryWriter(run.history, "harness", self.clock)
        self.subject = subject
        kind = Deployer if options.external is None else Attached
        forward = options.forward.url if options.forward else ""
        self.deployer = kind(scenario, subject, run, self.writer, progress.note, forward)
        self.manifest = Manifest(run, scenario, plan, options, subject)

    async def perform(self) -> None:
        """Do everything between the plan and the judgement; the history is complete after it."""
        try:
            # a history that cannot be written any more ends the run: the disk is full
            async with self._guardian() as guardian, beside(self._flush()):
                await self._conduct(guardian)
        except Exception as error:
            self.writer.record("note", level="error", text=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.writer.close()  # raises when not all could be written, and names the file
            self.manifest.save(self.clock)

    async def _conduct(self, guardian: Guardian) -> None:
        self._phase("deploy")
        deployment = await self.deployer.deploy(guardian, self.subnet)
        self.manifest.describe(deployment)
        self.manifest.save(self.clock)
        self._phase("prepare")
        # load processes import Locust while the accounts are made
        load = await self._start_load(guardian, deployment)
        await self.deployer.prepare(deployment, self.plan)
        await load.ready(MACHINES_READY_S if self.options.master else LOAD_READY_S)
        context = FaultContext(
            guardian, self.deployer.links, self.scenario.redis, self.run, self.clock
        )
        context.aims = self.options.aims
        probes = Probes(deployment, self.plan, self.run, self.clock, self.writer, context)
        async with neighbour(guardian, deployment, self.plan, self.run, self.writer):
            await probes.start()
            try:
                await self._load(deployment, load, context)
            finally:
                await probes.stop()

    async def _start_load(self, guardian: Guardian, deployment: Deployment) -> LoadProcesses:
        master = self.options.master
        if master is None:
            return await start_load(guardian, deployment, self.plan, self.run, self.clock)
        load = await start_machines(guardian, deployment, master, self.run, self.clock)
        command = f"harness load-worker --master {master.host}:{master.port}"
        self.progress.note(f"waiting for {master.expected} load machines: {command}")
        return load

    @contextlib.asynccontextmanager
    async def _guardian(self) -> AsyncIterator[Guardian]:
        lease = Lease.acquire(subnet=self.options.subnet)
        guardian = await Guardian.start(self.run, lease)
        self.subnet = lease.subnet
        try:
            yield guardian
        finally:
            self._phase("teardown")
            await self.deployer.close()
            await guardian.stop()
            self.deployer.ended(guardian)

    async def _load(
        self, deployment: Deployment, load: LoadProcesses, context: FaultContext
    ) -> None:
        injector = Injector(self.plan, deployment, context, self.writer, self.clock)
        for reason in injector.unavailable():
            self.writer.record("note", level="error", text=reason)
        t0 = self.clock.now() + LEAD_S
        load.go(t0)
        async with asyncio.TaskGroup() as group:
            marks = group.create_task(self._marks(t0))
            faults = group.create_task(injector.run(t0))
            watch = group.create_task(self._watch(load, injector, faults))
            await load.finished(LEAD_S + load_seconds(self.scenario) + QUIESCE_S)
            await asyncio.wait([faults])
            self._phase("collect")
            marks.cancel()
            watch.cancel()

    async def _marks(self, t0: float) -> None:
        """Record phases and focus windows at their planned times."""
        marks: list[tuple[float, str, str]] = [
            (0.0, "phase", "warmup"),
            (self.scenario.warmup_s, "phase", "load"),
            (load_seconds(self.scenario), "phase", "quiesce"),
        ]
        for start, end in self.plan.focus:
            marks += [(start, "focus", "begin"), (end, "focus", "end")]
        for at, kind, what in sorted(marks):
            await asyncio.sleep(max(0.0, t0 + at - self.clock.now()))
            if kind == "phase":
                self._phase(what, t0 + at)
            else:
                self.writer.record("focus", t=t0 + at, event=what)

    async def _watch(
        self, load: LoadProcesses, injector: Injector, faults: asyncio.Task[None]
    ) -> None:
        """Show the load; end it, and heal, when the condition of --abort-on comes true."""
        abort = AbortWatch(self.options.abort_on)
        while True:
            status = load.status()
            self.progress.update(**status, fault=injector.current)
            if reason := abort.sample(self.clock.now(), status["ops"], status["errors"]):
                self._abort(reason)
                load.interrupt()
                faults.cancel()
                return
            await asyncio.sleep(0.5)

    def _abort(self, reason: str) -> None:
        self.manifest.abort(reason)
        self.writer.record("note", level="error", text=f"the load was ended early: {reason}")
        self.progress.note(f"the load is ended early: {reason}")

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_PERIOD_S)
            self.writer.pass_on()

    def _phase(self, name: str, t: float | None = None) -> None:
        self.manifest.phases[name] = at = self.clock.now() if t is None else t
        self.writer.record("phase", t=at, name=name)
        self.progress.phase(name)
