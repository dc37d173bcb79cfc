"""run.json: what a run was, for the checks and the report; plan and history say what happened."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import orjson

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment
from harness.options import RunOptions
from harness.plan import Plan
from harness.scenario import Scenario
from harness.targets.subject import Subject

WORKERS = ("open-webui", "redis", "python-socketio", "starsessions", "fastapi", "uvicorn")
TOOLS = ("locust", "toxiproxy-python")


class Manifest:
    """Keeps run.json up to date while a run goes through its phases."""

    def __init__(
        self, run: RunFolder, scenario: Scenario, plan: Plan, options: RunOptions, subject: Subject
    ) -> None:
        self._path = run.root / "run.json"
        self.phases: dict[str, float] = {}
        self._facts: dict[str, Any] = {
            "scenario": scenario.name,
            "seed": plan.seed,
            "topology": scenario.topology,
            "workers": scenario.workers,
            "target": subject.target.label,
            "with": [str(pin) for pin in options.pins],
            "target_command": options.target_command,
            "command": options.command_line(scenario.name),
            "capabilities": sorted(subject.target.capabilities),
            "instruments": sorted(subject.target.instruments),
            "host": scenario.host,
            "images": scenario.used_images,
            "versions": _versions(subject.environment.versions),
            "phases": self.phases,
        }

    def describe(self, deployment: Deployment) -> None:
        """Add the addresses of what was deployed."""
        if deployment.host is not None:
            self._facts["versions"]["redis-server"] = deployment.host.version
        self._facts |= {
            "links": bool(deployment.links),
            "nodes": {n.name: f"{n.host}:{n.port}" for n in deployment.nodes},
            "sentinels": {n.name: f"{n.host}:{n.port}" for n in deployment.sentinels},
            "redis_addresses": deployment.redis_addresses,
            "urls": [worker.url for worker in deployment.workers],
        }
        if (balancer := deployment.balancer) is not None:
            where = f" in {balancer.boxed.image}" if balancer.boxed else ""
            self._facts["balancer"] = f"nginx {balancer.version} at {balancer.url}{where}"
        if (server := deployment.database) is not None:
            at = f"{server.host}:{server.port}"
            self._facts["database"] = f"PostgreSQL {server.version} at {at}"

    def abort(self, reason: str) -> None:
        """Note that the load was ended early."""
        self._facts["aborted"] = reason

    def save(self, clock: RunClock) -> None:
        """Write the file."""
        facts = {**self._facts, "base": clock.base}
        self._path.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))


def _versions(installed: Mapping[str, str]) -> dict[str, str]:
    """Return versions: of what the workers run with, and of the harness's own tools."""
    found = {name: installed[name] for name in WORKERS if name in installed}
    tools = {name: version(name) for name in TOOLS}
    return {"python": platform.python_version(), **found, **tools}
