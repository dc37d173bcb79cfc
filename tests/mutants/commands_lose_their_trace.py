"""Mutant: commands to a Redis Cluster are sent by a task that knows nothing of the request.

So their spans would be orphans, and are not made.
"""

from __future__ import annotations

from opentelemetry.context import Context, attach, detach

from runtime.operate.metrics import CommandObserver, Exchange
from tests.mutants.broken import serve

begun = CommandObserver.begin


def elsewhere(self: CommandObserver, name: str, count: int) -> Exchange:
    """Begin the exchange in an empty context."""
    token = attach(Context())
    try:
        return begun(self, name, count)
    finally:
        detach(token)


if __name__ == "__main__":
    CommandObserver.begin = elsewhere  # type: ignore[method-assign]  # the defect
    serve()
