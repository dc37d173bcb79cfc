"""`spans.Tracing` on opentelemetry's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime.telemetry.spans import Attributes

PARENT_LENGTH = 55  # 00-<32 hex>-<16 hex>-<2 hex>


def parse_traceparent(text: str) -> SpanContext | None:
    """Return the remote span context of a W3C traceparent; None when it is none."""
    parts = text.split("-")
    if len(text) != PARENT_LENGTH or [len(p) for p in parts] != [2, 32, 16, 2]:
        return None
    try:
        trace_id, span_id, flags = (int(part, 16) for part in parts[1:])
    except ValueError:
        return None
    found = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return found if found.is_valid else None


class OtelTracing:
    """Spans of this worker, made by one tracer."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def traceparent(self) -> str:
        """Return the current sampled span as a W3C traceparent, else an empty text."""
        span = trace.get_current_span()
        if not span.is_recording():
            return ""
        found = span.get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-01"

    def continued(
        self, name: str, traceparent: str, attributes: Attributes
    ) -> AbstractContextManager[None]:
        """Return a consumer span whose parent is on another worker."""
        return self._continued(name, traceparent, attributes)

    @contextmanager
    def _continued(self, name: str, traceparent: str, attributes: Attributes) -> Iterator[None]:
        parent = parse_traceparent(traceparent)
        if parent is None:
            yield
            return
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        span = self._tracer.start_span(
            name, context, kind=SpanKind.CONSUMER, attributes=dict(attributes)
        )
        token = attach(trace.set_span_in_context(span, context))
        try:
            yield
        finally:
            detach(token)
            span.end()

    def command(self, name: str, count: int) -> OtelCommand | None:
        """Begin a client span under the current one; None when that is not sampled."""
        if not trace.get_current_span().is_recording():
            return None
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT)
        span.set_attribute("db.system.name", "redis")
        span.set_attribute("db.operation.name", name)
        if count > 1:
            span.set_attribute("db.operation.batch.size", count)
        return OtelCommand(span)

    def ids(self) -> tuple[str, str] | None:
        """Return trace and span id of the current span, None without one."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return None
        return f"{found.trace_id:032x}", f"{found.span_id:016x}"


class OtelCommand:
    """The span of one exchange with Redis."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def end(self, address: tuple[str, int] | None, error: str) -> None:
        """Close it; `error` is a class of errors, empty when all went well."""
        if address is not None:
            self._span.set_attribute("server.address", address[0])
            self._span.set_attribute("server.port", address[1])
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
