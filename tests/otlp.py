"""An OTLP receiver: the real gRPC services and HTTP paths, which keep what arrives."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc


@dataclass(frozen=True)
class Span:
    """What tests ask of a span. Ids are hexadecimal."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    worker: str
    attributes: dict[str, Any]


@dataclass
class Received:
    """Everything that arrived, and the headers it came with."""

    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # worker → name → metric
    logs: list[tuple[str, str, str]] = field(default_factory=list)  # worker, body, trace
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, request: Any) -> None:
        """Keep one export request."""
        self.raw.append(request.SerializeToString())
        for batch in getattr(request, "resource_spans", ()):
            self._spans(batch, self._worker(batch))
        for batch in getattr(request, "resource_metrics", ()):
            worker = self._worker(batch)
            for scope in batch.scope_metrics:
                for metric in scope.metrics:
                    self.metrics.setdefault(worker, {})[metric.name] = metric
        for batch in getattr(request, "resource_logs", ()):
            worker = self._worker(batch)
            for scope in batch.scope_logs:
                for record in scope.log_records:
                    body = record.body.string_value
                    self.logs.append((worker, body, record.trace_id.hex()))

    def _worker(self, batch: Any) -> str:
        resource = attributes_of(batch.resource)
        if resource not in self.resources:
            self.resources.append(resource)
        return str(resource.get("service.instance.id", ""))

    def _spans(self, batch: Any, worker: str) -> None:
        for scope in batch.scope_spans:
            for span in scope.spans:
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self.spans.append(Span(span.name, span.kind, *ids, worker, attributes_of(span)))

    def traces(self) -> dict[str, list[Span]]:
        """Return the spans by trace."""
        found: dict[str, list[Span]] = {}
        for span in list(self.spans):
            found.setdefault(span.trace, []).append(span)
        return found


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of a resource, span or data point."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in thing.attributes}


class _Service:
    """The three services; each has one method of one name."""

    def __init__(self, received: Received, answer: Any) -> None:
        self._received, self._answer = received, answer

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Keep a request."""
        self._received.headers.append(dict(context.invocation_metadata()))
        self._received.take(request)
        return self._answer()


@contextmanager
def grpc_receiver(address: str) -> Iterator[Received]:
    """Listen for OTLP by gRPC on host:port."""
    received = Received()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_grpc.add_TraceServiceServicer_to_server(
        _Service(received, trace_pb.ExportTraceServiceResponse), server
    )
    metrics_grpc.add_MetricsServiceServicer_to_server(
        _Service(received, metrics_pb.ExportMetricsServiceResponse), server
    )
    logs_grpc.add_LogsServiceServicer_to_server(
        _Service(received, logs_pb.ExportLogsServiceResponse), server
    )
    server.add_insecure_port(address)
    server.start()
    try:
        yield received
    finally:
        server.stop(0).wait()


PATHS = {
    "/v1/traces": trace_pb.ExportTraceServiceRequest,
    "/v1/metrics": metrics_pb.ExportMetricsServiceRequest,
    "/v1/logs": logs_pb.ExportLogsServiceRequest,
}


@contextmanager
def http_receiver(host: str, port: int) -> Iterator[Received]:
    """Listen for OTLP by HTTP; other paths than the standard's are answered 404."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kind = PATHS.get(self.path)
            if kind is not None:
                received.headers.append({k.lower(): v for k, v in self.headers.items()})
                received.take(kind.FromString(body))
            self.send_response(200 if kind else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Receive by gRPC at the address of the first argument, until SIGTERM."""
    with grpc_receiver(sys.argv[1]):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
