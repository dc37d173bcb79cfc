"""A deployment that already runs, as a target: nothing of it is started, changed or ended.

| file | what |
|---|---|
| `description.py` | where it is, who may sign in, what may be done to it: a file, flags, or both |
| `hosts.py` | which hosts may be spoken to |
| `ask.py` | is anybody there, is it such an app, what does it offer |
| `fit.py` | what of a scenario can be done to it |
| `announce.py` | what the run will do, in words and in requests/s |
| `accounts.py` | accounts of the load: made by the admin, or existing ones |
| `attach.py` | the deployer: connects the run's parts to it |
"""

from __future__ import annotations

from typing import ClassVar

from harness.errors import UserError
from harness.targets.base import PROVIDER, Target, WorkerSpec
from harness.targets.external.description import External

NAME = "external"


class ExternalTarget(Target):
    """What a deployment was found to offer. It has no command: it runs."""

    name: ClassVar[str] = NAME

    def __init__(self, told: External, capabilities: frozenset[str]) -> None:
        self.told = told
        self.capabilities = capabilities
        self.instruments = frozenset({PROVIDER} if told.provider else ())

    def command(self, worker: WorkerSpec) -> list[str]:
        """Raise UserError: it is never started."""
        raise UserError(f"{worker.instance} is not the harness's to start: it runs elsewhere")

    def environment(self, worker: WorkerSpec) -> dict[str, str]:
        """Return nothing: its environment is its own."""
        del worker
        return {}

    def key(self, purpose: str) -> str:
        """Raise UserError: its key names are its own."""
        raise UserError(f"primary-of:{purpose}: the keys of an external deployment are not known")
