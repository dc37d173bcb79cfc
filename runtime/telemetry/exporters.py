"""The OTLP exporters of the three signals, over grpc or http, as the settings say."""

from __future__ import annotations

import base64
from typing import Any

from runtime.telemetry.options import Signal, TelemetryOptions, parse_pairs

EXPORT_WITHIN_S = 5  # one export with its retries; a collector that is away delays nobody
CLASSES: dict[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


def headers_of(options: TelemetryOptions, signal: Signal) -> dict[str, str]:
    """Return the headers of each export, basic authentication included."""
    headers = {k.lower(): v for k, v in parse_pairs(options.otel_exporter_otlp_headers).items()}
    user, password = options.otlp_credentials(signal)
    if user:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    return headers


def exporter(options: TelemetryOptions, signal: Signal) -> Any:
    """Return the exporter of a signal."""
    transport = options.otlp_transport(signal)
    arguments: dict[str, Any] = {
        "endpoint": options.otlp_endpoint(signal),
        "headers": headers_of(options, signal),
        "timeout": EXPORT_WITHIN_S,
    }
    if transport == "grpc":
        arguments["insecure"] = options.otlp_insecure(signal)
    return _class(transport, signal)(**arguments)


def _class(transport: str, signal: Signal) -> Any:
    """Import only the transport that is used: grpc alone takes 20 MiB."""
    from importlib import import_module

    module, name = CLASSES[signal]
    return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{transport}.{module}"), name)
