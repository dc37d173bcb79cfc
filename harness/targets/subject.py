"""What one run tests: a target, the environment its workers run in, and how they are linked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deploy.model import Deployment
from harness.environments.overlay import Environment
from harness.targets.base import Target

if TYPE_CHECKING:
    from harness.targets.external.ask import Found


@dataclass(frozen=True)
class Subject:
    """A target that is installed. `unsuited` says why it cannot run the scenario; else empty."""

    target: Target
    environment: Environment
    hooked: bool = True
    worker_cpus: tuple[int, ...] = ()  # as in RunOptions
    unsuited: str = ""
    found: Found | None = None  # of an external one: who asked, and what it offers

    def deployment(self, topology: str, subnet: str) -> Deployment:
        """Return an empty deployment of it."""
        return Deployment(
            topology,
            self.target,
            subnet,
            python_path=self.environment.python_path,
            hooked=self.hooked,
            worker_cpus=self.worker_cpus,
        )
