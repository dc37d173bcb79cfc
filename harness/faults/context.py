"""What faults share in one run: the means to act, and what others must know about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.faults.base import Aim, FaultError
from harness.scenario import Redis

if TYPE_CHECKING:
    from harness.deploy.model import Process
    from harness.deploy.spawner import Guardian
    from harness.network.links import Links


class NotInjectedError(FaultError):
    """The injection was refused before it changed anything: there is nothing to heal."""


@dataclass
class FaultContext:
    """The guardian and the links to act with; the exits that faults cause.

    `links` is None when workers dial Redis directly. `seed` is the plan's; the injector sets it.
    `notes` gathers remarks of faults; the injector writes them to the history.
    `busy_links` names the links that carry a fault. `aims` holds the targets of a replay by fault
    id; a fault without one resolves its role.
    """

    guardian: Guardian
    links: Links | None
    redis: Redis
    run: RunFolder
    clock: RunClock
    seed: int = 0
    notes: list[str] = field(default_factory=list)
    busy_links: set[str] = field(default_factory=set)
    aims: dict[str, Aim] = field(default_factory=dict)
    _expected: set[tuple[str, int]] = field(default_factory=set)

    def expect_exit(self, process: Process) -> None:
        """Mark a process whose exit is a fault's doing, not the system's."""
        self._expected.add((process.name, process.pid))

    def expects_exit(self, process: Process) -> bool:
        """Tell whether a fault ended this process on purpose."""
        return (process.name, process.pid) in self._expected
