"""OTLP's protobuf → `span` records of the history.

Times come as nanoseconds of the wall clock and become seconds since the run's base. Both clocks
are read anew for each export, so a wall clock that is set during a run moves few spans.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no types shipped
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness.clock import RunClock
from harness.history.records import Record

MAX_ATTRIBUTES = 16
MAX_TEXT = 160  # characters of one attribute: statements can be long
KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
ERROR = 2  # of opentelemetry.proto.trace.v1.Status.StatusCode
_WORKER = re.compile(r"worker-(\d+)")
_NANOSECONDS = 1e9


def parse_export(body: bytes) -> ExportTraceServiceRequest:
    """Return an export request; raise ValueError when it is none."""
    try:
        request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise ValueError(f"expected an ExportTraceServiceRequest: {error}") from error
    return request


def span_records(request: ExportTraceServiceRequest, clock: RunClock) -> Iterator[Record]:
    """Yield a record per span, `t` its end, in the order of the export."""
    shift = clock.now() - time.time()
    for batch in request.resource_spans:
        who = _who(attributes_of(batch.resource))
        for scope in batch.scope_spans:
            for span in scope.spans:
                yield _record(span, who, shift)


def _who(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the worker's number; the instance's name where it is not one of ours."""
    instance = str(resource.get("service.instance.id", ""))
    found = _WORKER.fullmatch(instance)
    return {"worker": int(found[1])} if found else {"instance": instance}


def _record(span: Any, who: dict[str, Any], shift: float) -> Record:
    record: Record = {
        "t": round(span.end_time_unix_nano / _NANOSECONDS + shift, 6),
        "k": "span",
        "t0": round(span.start_time_unix_nano / _NANOSECONDS + shift, 6),
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name[:MAX_TEXT],
        "kind": KINDS[span.kind] if span.kind < len(KINDS) else KINDS[0],
        **who,
        "attributes": attributes_of(span),
    }
    if span.status.code == ERROR:
        record["error"] = span.status.message[:MAX_TEXT] or "error"
    return record


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the first attributes of a resource or span, long texts cut."""
    return {pair.key: _plain(pair.value) for pair in thing.attributes[:MAX_ATTRIBUTES]}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "string_value":
        return found[:MAX_TEXT]
    return found if isinstance(found, bool | int | float) else str(found)[:MAX_TEXT]
