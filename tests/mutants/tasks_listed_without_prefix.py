"""Mutant: the register of running tasks is the same for every installation on a Redis."""

from __future__ import annotations

from runtime.redis.keys import Keys
from tests.mutants.broken import serve


def one_register(_: Keys) -> str:
    """Return the key of all tasks, whatever the prefix."""
    return "tasks"


def one_marker(_: Keys, task: str) -> str:
    """Return the key that says that a task's owner is alive."""
    return f"tasks:{task}"


if __name__ == "__main__":
    Keys.tasks = property(one_register)  # type: ignore[assignment,method-assign]  # the defect
    Keys.task = one_marker  # type: ignore[method-assign]  # the defect
    serve()
