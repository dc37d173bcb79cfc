"""Start load processes, give them their second 0, and notice when one is lost."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any, Protocol

import orjson

import harness
from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Process
from harness.deploy.service import clean_environment, log_tail
from harness.errors import UserError
from harness.history.writer import HistoryWriter
from harness.load.addresses import require_loopback
from harness.load.entry import Entry
from harness.load.setup import (
    LoadSetup,
    ready_path,
    setup_path,
    start_path,
    status_path,
    write_start,
)
from harness.plan import Plan
from harness.waiting import WaitTimeout, wait_for

STOP_S = 3.0
_SUMMED = ("ops", "errors", "users", "sockets", "streams", "shed")
_WORST = ("late_ms",)


class Spawner(Protocol):
    """The part of the guardian that load needs."""

    async def spawn(
        self, name: str, argv: list[str], env: dict[str, str], cwd: Path | None = None
    ) -> Process:
        """Start a process of the run with exactly this environment."""


async def start_load(
    guardian: Spawner,
    deployment: Deployment,
    plan: Plan,
    run: RunFolder,
    clock: RunClock,
    name: str = "load",
) -> LoadProcesses:
    """Spawn the scenario's load processes; they connect their sockets and wait for `go`.

    May be called before `prepare`, so that Locust's start overlaps with it: the processes wait
    for the accounts.
    """
    entry = Entry.of(deployment)
    if not deployment.vetted:
        require_loopback(list(entry.urls))
    capabilities, provider = deployment.target.capabilities, deployment.provider_url
    count = plan.scenario["load"]["processes"]
    share = deployment.max_rate / count
    setup = LoadSetup(entry.urls, capabilities, clock.base, entry.balancer, share, provider)
    setup.write(setup_path(run))
    environment = load_environment()
    processes = [
        await guardian.spawn(f"{name}-{number}", _command(run, number, count), environment)
        for number in range(count)
    ]
    return LoadProcesses(processes, run, clock, count)


def load_environment() -> dict[str, str]:
    """Return the environment of load processes: they find this harness, and little else."""
    return clean_environment(Path(harness.__file__).parents[1])


def _command(run: RunFolder, number: int, count: int) -> list[str]:
    return [
        *(sys.executable, "-m", "harness.load.process"),
        *("--run", str(run.root.resolve())),
        *("--number", str(number), "--of", str(count)),
    ]


class LoadProcesses:
    """The running load. Every exit is written to the history as a record `exit`."""

    def __init__(
        self, processes: list[Process], run: RunFolder, clock: RunClock, count: int
    ) -> None:
        self._processes = processes
        self._count = count  # load processes; of those on other machines only the link is ours
        self._run = run
        self._writer = HistoryWriter(run.history, "load", clock)
        self._seen: set[str] = set()
        self._interrupted = False

    async def ready(self, deadline: float) -> None:
        """Return when all sockets of all processes are connected.

        Raises UserError with the end of its log when a process exits first, and when the
        deadline (seconds) passes.
        """
        paths = [ready_path(self._run, number) for number in range(self._count)]
        try:
            await wait_for(
                lambda: self._any_exited() or all(path.exists() for path in paths),
                deadline,
                "load processes connect their sockets",
            )
        except WaitTimeout as error:
            raise UserError(f"{error}\n{log_tail(self._processes[0].log)}") from error
        for process in self._any_exited():
            raise UserError(
                f"{process.name} ended with status {process.exit_status} before the load began; "
                f"expected it to connect its sockets. {log_tail(process.log)}"
            )

    def go(self, t0: float) -> None:
        """Tell all processes that load second 0 is at `t0`, in seconds since the run's base."""
        write_start(start_path(self._run), t0)

    def interrupt(self) -> None:
        """End the load early: each process flushes its history and exits; nobody is lost by it."""
        self._interrupted = True
        for process in self._processes:
            process.signal(signal.SIGTERM)

    async def finished(self, deadline: float) -> list[str]:
        """Wait until every process has ended by itself; return the names of the lost ones.

        A process that exits with another status than 0, or that is still there after
        `deadline` seconds (it is then ended), is lost: its part of the evidence is missing.
        """
        try:
            await wait_for(self._all_exited, deadline, "load processes end")
        except WaitTimeout as error:
            self._writer.record("note", level="error", text=str(error))
            await self._end()
        lost = [p.name for p in self._processes if p.exit_status != 0]
        self._writer.close()
        return lost

    def status(self) -> dict[str, Any]:
        """Return the sums over all processes of what they last reported."""
        total: dict[str, Any] = dict.fromkeys((*_SUMMED, *_WORST), 0)
        for number in range(self._count):
            part = _read(status_path(self._run, number))
            for name in _SUMMED:
                total[name] += part.get(name, 0)
            for name in _WORST:
                total[name] = max(total[name], part.get(name, 0))
        return total

    def _any_exited(self) -> list[Process]:
        return [process for process in self._processes if process.exit_status is not None]

    def _all_exited(self) -> bool:
        for process in self._any_exited():
            if process.name not in self._seen:
                meant = self._interrupted or process.exit_status == 0
                self._record_exit(process, expected=meant)
        return len(self._seen) == len(self._processes)

    def _record_exit(self, process: Process, expected: bool) -> None:
        self._seen.add(process.name)
        status = process.exit_status
        self._writer.record("exit", name=process.name, status=status, expected=expected)
        self._writer.flush()

    async def _end(self) -> None:
        """Stop what is left: by SIGTERM, which flushes the history, then by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [p for p in self._processes if p.exit_status is None]
            for process in left:
                process.signal(number)
            results = await asyncio.gather(
                *(process.wait(STOP_S) for process in left), return_exceptions=True
            )
            for process, result in zip(left, results, strict=True):
                if not isinstance(result, BaseException):
                    self._record_exit(process, expected=True)  # it did not end by itself


def _read(path: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return status
