"""Mutant: nobody looks after the tasks of a worker that died."""

from __future__ import annotations

from runtime.tasks.owner import TaskOwner
from tests.mutants.broken import serve


async def see_nothing(self: TaskOwner) -> None:
    """Take everybody for alive."""


if __name__ == "__main__":
    TaskOwner.look = see_nothing  # type: ignore[method-assign]  # the defect
    serve()
