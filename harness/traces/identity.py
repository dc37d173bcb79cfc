"""Which operations are traced, and how their requests say so: W3C Trace Context.

The load begins the trace of a request, so an operation in the history and its spans have one id.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

SAMPLED, UNSAMPLED = "01", "00"
_WHOLE = 1 << 64


@dataclass(frozen=True)
class TraceIdentity:
    """A trace that the load begins: 32 hexadecimal digits, and its header `traceparent`."""

    trace: str
    sampled: bool

    @classmethod
    def new(cls, share: float) -> TraceIdentity:
        """Return a fresh one; it is sampled with probability `share`."""
        number = secrets.randbits(128) or 1  # all zeros are no id
        return cls(f"{number:032x}", (number & (_WHOLE - 1)) < share * _WHOLE)

    @property
    def traceparent(self) -> str:
        """Return the header's value: the operation itself is the parent of the worker's span.

        An unsampled request says so too, or the worker would decide by itself.
        """
        span = f"{secrets.randbits(64) or 1:016x}"
        return f"00-{self.trace}-{span}-{SAMPLED if self.sampled else UNSAMPLED}"
