"""Makes the subject of a run: the target asked for, installed, and fit for the scenario."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import harness.network
from harness.environments.overlay import Environment, environment
from harness.targets import get_target
from harness.targets.base import Target
from harness.targets.external.subject import external_subject, require_described
from harness.targets.subject import Subject

if TYPE_CHECKING:
    from harness.options import RunOptions
    from harness.scenario import Scenario

HOOK = Path(harness.network.__file__).resolve().parent / "dialhook"
EXTERNAL = "external"
_ASK_HOOK = "import sitecustomize; print(sitecustomize.check() or '', end='')"


def make_subject(scenario: Scenario, options: RunOptions, say: Callable[[str], None]) -> Subject:
    """Install the target with the versions asked for; raise UserError when that fails.

    On one Redis server a worker's URL can be its link, so a redis-py that the dial hook does not
    know can be tested there; Sentinel and Cluster announce addresses, which only the hook turns.
    """
    if scenario.target == EXTERNAL:
        told = require_described(options.external)
        return external_subject(scenario, told, options.seed, say)
    target = get_target(scenario.target, options.target_command)
    if reason := _unsuited(target, scenario):
        return Subject(target, Environment("", (), {}), unsuited=reason)
    made = environment(target.install(say), options.pins, say)
    unknown = hook_refusal(made)
    if scenario.topology == "standalone":
        hooked = not unknown and not target.link_is_url
        return Subject(target, made, hooked, options.worker_cpus)
    if unknown:
        return Subject(target, made, unsuited=f"not testable on {scenario.topology}: {unknown}")
    return Subject(target, made, worker_cpus=options.worker_cpus)


def _unsuited(target: Target, scenario: Scenario) -> str:
    """Return why a target cannot run on what the scenario deploys; empty when it can."""
    if scenario.topology not in target.topologies:
        known = ", ".join(sorted(target.topologies))
        return f"target {target.label} runs on {known}, not on {scenario.topology}"
    if scenario.database and scenario.database not in target.databases:
        known = " or ".join(target.databases)
        return f"target {target.label} keeps its data in {known}, not in {scenario.database}"
    return target.refusal(scenario.topology, scenario.redis.auth, scenario.redis.tls)


def hook_refusal(made: Environment) -> str:
    """Return why the dial hook cannot be used in an environment; empty when it can."""
    path = ":".join(str(folder) for folder in (HOOK, *made.python_path))
    done = subprocess.run(
        [made.interpreter, "-c", _ASK_HOOK],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()[-300:]
