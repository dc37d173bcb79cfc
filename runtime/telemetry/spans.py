"""Spans for code that must not import opentelemetry: nothing happens until `install`.

Only what belongs to a sampled trace makes spans. So background loops make none, and a request
that is not sampled costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Attributes = Mapping[str, str | int | float | bool]
NOTHING: AbstractContextManager[None] = nullcontext()


class CommandSpan(Protocol):
    """A span of one exchange with Redis."""

    def end(self, address: tuple[str, int] | None, error: str) -> None:
        """Close it; `error` is a class of errors, empty when all went well."""


class Tracing(Protocol):
    """What `runtime.telemetry.tracing` does with opentelemetry."""

    def traceparent(self) -> str:
        """Return the current sampled span as a W3C traceparent, else an empty text."""

    def continued(
        self, name: str, traceparent: str, attributes: Attributes
    ) -> AbstractContextManager[None]:
        """Return a consumer span whose parent is on another worker."""

    def command(self, name: str, count: int) -> CommandSpan | None:
        """Begin a client span under the current one; None when that is not sampled."""

    def ids(self) -> tuple[str, str] | None:
        """Return trace and span id of the current span, None without one."""


_tracing: Tracing | None = None


def install(tracing: Tracing | None) -> None:
    """Trace from now on; None ends it."""
    global _tracing
    _tracing = tracing


def traceparent() -> str:
    """Return the current sampled span as a W3C traceparent, else an empty text."""
    return _tracing.traceparent() if _tracing is not None else ""


def continued(name: str, parent: str, attributes: Attributes) -> AbstractContextManager[None]:
    """Return a span for work that another worker asked for; does nothing without a parent."""
    if _tracing is None or not parent:
        return NOTHING
    return _tracing.continued(name, parent, attributes)


def command(name: str, count: int) -> CommandSpan | None:
    """Begin the span of an exchange with Redis: the command's name, never its arguments."""
    return _tracing.command(name, count) if _tracing is not None else None


def ids() -> tuple[str, str] | None:
    """Return trace and span id of the current span, for logs."""
    return _tracing.ids() if _tracing is not None else None
