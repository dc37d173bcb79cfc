"""What a fault is: available, aim, inject, confirm, heal, confirm_heal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.choices import Choices
from harness.deploy.model import Deployment
from harness.plan import PlannedFault


class FaultError(Exception):
    """The fault could not be injected, confirmed or healed; says which and why."""


@dataclass
class Aim:
    """What a role meant at injection; recorded so that a replay can hit the same nodes."""

    nodes: list[str] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)


class Fault(ABC):
    """One fault of the plan. The injector calls aim, inject, confirm, heal, confirm_heal in order.

    `confirm` returns evidence that it really happened (the process died, the proxy held bytes,
    the role moved) as a sentence, or raises FaultError. A fault without evidence makes the
    verdict unknown.
    """

    kind: ClassVar[str]

    def __init__(self, planned: PlannedFault, deployment: Deployment, context: Any) -> None:
        self.planned = planned
        self.spec = planned.spec
        self.deployment = deployment
        self.context = context
        self.target = Aim()

    @property
    def choices(self) -> Choices:
        """Return the fault's own random stream: the same for the same seed."""
        return Choices(self.context.seed, f"fault-{self.planned.id}")

    def available(self) -> str | None:
        """Return why this fault cannot run on this deployment, or None when it can."""
        return None

    @abstractmethod
    async def aim(self) -> Aim:
        """Resolve roles to nodes and workers, as they are right now."""

    @abstractmethod
    async def inject(self) -> None:
        """Do it."""

    @abstractmethod
    async def confirm(self) -> str:
        """Return the evidence that it happened."""

    @abstractmethod
    async def heal(self) -> None:
        """Undo it."""

    @abstractmethod
    async def confirm_heal(self) -> str:
        """Return the evidence that the deployment is whole again."""
