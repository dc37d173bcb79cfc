"""Mutant: the message that asks the owner to stop a task does not say of which trace it is."""

from __future__ import annotations

from runtime.tasks.records import Command
from runtime.tasks.stops import StopIntents
from tests.mutants.broken import serve

carried = StopIntents._messages


def without_parent(
    self: StopIntents, messages: list[tuple[str, str, dict[str, str]]]
) -> list[Command]:
    """Leave the traceparent out."""
    kept = [
        (action, task, {name: value for name, value in more.items() if name != "traceparent"})
        for action, task, more in messages
    ]
    return carried(self, kept)


if __name__ == "__main__":
    StopIntents._messages = without_parent  # type: ignore[method-assign]  # the defect
    serve()
