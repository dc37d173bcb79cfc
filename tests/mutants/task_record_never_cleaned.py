"""Mutant: the records of a finished task stay in Redis."""

from __future__ import annotations

from runtime.tasks.records import Command, TaskRecords
from tests.mutants.broken import serve


def remove_nothing(self: TaskRecords, task_id: str, item: str) -> list[Command]:
    """Send no command that would remove a record."""
    return []


if __name__ == "__main__":
    TaskRecords._remove_commands = remove_nothing  # type: ignore[method-assign]  # the defect
    serve()
