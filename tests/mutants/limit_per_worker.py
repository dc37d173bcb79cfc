"""Mutant: every worker counts sign-ins for itself alone."""

from __future__ import annotations

from runtime.limits.rate_limit import Decision, RateLimit
from tests.mutants.broken import serve


async def decide_alone(self: RateLimit, key: str, *, take: bool) -> Decision:
    """Decide by what this worker admitted."""
    return self._alone(self._tally(key), take)


if __name__ == "__main__":
    RateLimit._decide = decide_alone  # type: ignore[method-assign]  # the defect
    serve()
