"""What a caller may ask of a run, and what a run hands back."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.changes import changed
from harness.verdict import ExitCode, Verdict

if TYPE_CHECKING:
    from harness.checks.judge import Judgement
    from harness.deploy.folder import RunFolder
    from harness.environments.pins import Pin
    from harness.faults.base import Aim
    from harness.load.abort import Condition
    from harness.load.machines import Master
    from harness.scenario import Scenario
    from harness.targets.external.description import External
    from harness.traces.forward import ForwardTo

SEEDS = 1_000_000  # short enough to read aloud, long enough not to repeat


def fresh_seed() -> int:
    """Return a seed nobody chose; it is printed and saved, so any run can be repeated."""
    return int.from_bytes(os.urandom(8)) % SEEDS


@dataclass(frozen=True)
class RunOptions:
    """Choices of the command line. `overrides` maps dotted scenario keys to values."""

    seed: int = field(default_factory=fresh_seed)
    workers: int | None = None
    users: int | None = None
    processes: int | None = None
    target: str | None = None  # None: the scenario's own
    target_command: str | None = None
    external: External | None = None  # the deployment that runs already
    forward: ForwardTo | None = None  # another collector, which gets the spans too
    abort_on: Condition | None = None  # ends the load early
    pins: tuple[Pin, ...] = ()  # versions of packages that the workers run with
    reports: Path = Path("reports")
    keep_data: bool = False
    worker_cpus: tuple[int, ...] = ()  # processors of the workers alone; empty: any
    subnet: str | None = None  # 127.x.y to lease, else any free one
    overrides: dict[str, Any] = field(default_factory=dict)
    master: Master | None = None  # load comes from other machines
    replay_of: str | None = None  # the saved run whose plan this is
    aims: dict[str, Aim] = field(default_factory=dict)  # of a replay at the same nodes

    @property
    def changes(self) -> dict[str, Any]:
        """Return every change to the scenario; some options are short for a key."""
        changes = dict(self.overrides)
        if self.workers is not None:
            changes["workers"] = self.workers
        if self.users is not None:
            changes["load.users"] = self.users
        if self.master is not None:
            changes["load.processes"] = self.master.expected
        elif self.processes is not None:
            changes["load.processes"] = self.processes
        return changes

    def apply(self, scenario: Scenario) -> Scenario:
        """Return the scenario with every change made; raise UserError naming the key."""
        if self.target not in (None, "external"):
            scenario = changed(scenario, {"target": self.target})
        scenario = changed(scenario, self.changes)
        if self.external is not None:
            from harness.targets.external.fit import fitted

            scenario = fitted(scenario, self.external)
        if self.forward is not None and scenario.telemetry is None:
            scenario = changed(scenario, {"telemetry": True})
        return scenario if "expected" in self.changes else of_its_side(scenario, self.pins)

    def command_line(self, scenario: str) -> str:
        """Return the command that runs `scenario` again with the same choices."""
        import shlex

        if self.replay_of:
            return shlex.join(
                ["harness", "replay", self.replay_of, *(["--same-nodes"] if self.aims else [])]
            )
        words = ["harness", "run", scenario, "--seed", str(self.seed)]
        for key, value in self.changes.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
            text = text.removesuffix("...\n").strip()  # yaml's end mark after a bare value
            words += ["--set", f"{key}={text}"]
        for pin in self.pins:
            words += ["--with", str(pin)]
        if self.external:
            words += shlex.split(self.external.source)
        elif self.target:
            words += ["--target", self.target]
        if self.forward:
            words += self.forward.words
        if self.abort_on:
            words += ["--abort-on", self.abort_on.text]
        if self.target_command:
            words += ["--target-command", self.target_command]
        return shlex.join(words)


@dataclass(frozen=True)
class RunResult:
    """How one scenario ended. `judgement` is None when it was skipped; `skipped` says why."""

    run: RunFolder | None
    judgement: Judgement | None
    skipped: str | None
    exit_code: ExitCode

    @classmethod
    def skip(cls, reason: str) -> RunResult:
        """Return the result of a scenario that could not run because a part is missing."""
        return cls(None, None, reason, ExitCode.MISSING_PART)


def load_with_options(path: Path, options: RunOptions) -> Scenario:
    """Read a scenario file and apply the options' changes; raise UserError as the file would."""
    from harness.scenario import load_scenario

    return options.apply(load_scenario(path))


def of_its_side(scenario: Scenario, pins: tuple[Pin, ...]) -> Scenario:
    """Return the scenario with the verdict that its bug expects of this target and versions."""
    bug = scenario.bug
    side = bug.side_of(scenario.model_dump(mode="json"), pins) if bug else None
    if bug is None or side is None:
        return scenario
    verdict = Verdict.FAIL if side in bug.fails else Verdict.PASS
    return scenario.model_copy(update={"expected": verdict})
