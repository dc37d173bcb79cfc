"""What two workers send to an OTLP collector, by gRPC and by HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from harness.waiting import wait_for
from tests.integration.app_deployment import PASSWORD, SUBNET, Deployment, deployment
from tests.otlp import Received, grpc_receiver, http_receiver

SERVER, CLIENT = 2, 3  # opentelemetry.proto's numbers
COLLECTOR = f"{SUBNET}.4"
OTEL = {
    "ENABLE_OTEL": "true",
    "ENABLE_OTEL_METRICS": "true",
    "ENABLE_OTEL_LOGS": "true",
    "OTEL_METRICS_EXPORT_INTERVAL_MILLIS": "300",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_BLRP_SCHEDULE_DELAY": "100",
    "OTEL_SERVICE_NAME": "chat",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    "OTEL_BASIC_AUTH_USERNAME": "me",
    "OTEL_BASIC_AUTH_PASSWORD": "pass",
    "GLOBAL_LOG_LEVEL": "DEBUG",
    "LOG_FORMAT": "json",
}
GRPC = {**OTEL, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}:4317"}
HTTP = {
    **OTEL,
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http",
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}:4318",
}


@pytest.fixture(params=["grpc", "http"])
async def traced(request: Any) -> AsyncIterator[tuple[Deployment, Received]]:
    """Two workers and what their collector received."""
    if request.param == "grpc":
        with grpc_receiver(f"{COLLECTOR}:4317") as received:
            async with deployment(environ=GRPC) as parts:
                yield parts, received
    else:
        with http_receiver(COLLECTOR, 4318) as received:
            async with deployment(environ=HTTP) as parts:
                yield parts, received


def _spanning(received: Received, *names: str) -> bool:
    """Tell whether one trace has all these spans, and spans of both workers."""
    return any(
        {span.worker for span in spans} == {"w0", "w1"}
        and set(names) <= {span.name for span in spans}
        for spans in received.traces().values()
    )


async def test_a_trace_crosses_workers_and_holds_no_secret(
    traced: tuple[Deployment, Received],
) -> None:
    """Events and a stop carry the trace to the other worker; values stay at home."""
    parts, received = traced
    user = await parts.user(0)
    await user.connect(0)
    _, task = await user.chat("a", 1)
    await wait_for(lambda: len(user.events) > 3, 5, "tokens cross workers")
    await user.call("POST", f"/api/tasks/stop/{task}", 0)
    await user.call("GET", "/api/v1/auths/", 1)
    await wait_for(
        lambda: _spanning(received, "POST /api/chat/completions", "events receive"),
        10,
        "one trace with the request on w1 and the event on w0",
    )
    await wait_for(
        lambda: _spanning(received, "POST /api/tasks/stop/{task_id}", "task stop"),
        10,
        "one trace with the stop on w0 and its execution on w1",
    )
    await user.leave()
    _check_resources(received)
    _check_redis_spans(received)
    everything = b"".join(received.raw)
    logs = b"".join(worker.log.read_bytes() for worker in parts.workers)
    for secret in (user.token, PASSWORD, user.email):
        assert secret.encode() not in everything
        assert secret.encode() not in logs
    lines = [orjson.loads(line) for line in logs.splitlines()]
    assert {"timestamp", "level", "logger", "message"} <= lines[0].keys()
    assert all(h["authorization"].startswith("Basic ") for h in received.headers), (
        "each export is authenticated"
    )


def _check_resources(received: Received) -> None:
    workers = {r["service.instance.id"] for r in received.resources}
    assert workers == {"w0", "w1"}
    assert {r["service.name"] for r in received.resources} == {"chat"}
    assert {r["deployment.environment.name"] for r in received.resources} == {"test"}


def _check_redis_spans(received: Received) -> None:
    redis = [s for s in received.spans if s.attributes.get("db.system.name") == "redis"]
    assert redis, "commands of requests have spans"
    for span in redis:
        assert span.parent, "background loops make no traces of their own"
        assert span.attributes["server.address"].startswith(f"{SUBNET}.")
        allowed = {
            *("db.system.name", "db.operation.name", "db.operation.batch.size"),
            *("server.address", "server.port", "error.type"),
        }
        assert set(span.attributes) <= allowed
        assert " " not in span.name.removeprefix("PIPELINE ")
    roots = {s.kind for s in received.spans if not s.parent}
    assert roots == {SERVER}, "only requests begin traces"
    kinds = {str(s.attributes.get("db.system")) for s in received.spans}
    assert "sqlite" in kinds, "SQLAlchemy is instrumented"
    names = {s.name for s in received.spans if s.kind == CLIENT}
    assert "POST" in names, "the call to the provider is instrumented"


async def test_metrics_and_logs_come_from_both_workers(
    traced: tuple[Deployment, Received],
) -> None:
    """The Prometheus instruments arrive as OTLP metrics; logs come with their worker."""
    parts, received = traced
    await parts.user(0)
    wanted = {
        "runtime_redis_command_duration_seconds",
        "runtime_http_request_duration_seconds",
        "runtime_event_loop_lag_seconds",
        "runtime_redis_connections",
        "runtime_loop_age_seconds",
    }
    await wait_for(
        lambda: all(wanted <= received.metrics.get(w, {}).keys() for w in ("w0", "w1")),
        10,
        "metrics of both workers",
    )
    requests = received.metrics["w0"]["runtime_http_request_duration_seconds"].histogram
    point = requests.data_points[0]
    assert point.count == sum(point.bucket_counts)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    await wait_for(lambda: {w for w, _, _ in received.logs} == {"w0", "w1"}, 10, "logs of both")


async def test_a_collector_that_is_away_harms_nobody() -> None:
    """Workers start, serve and end; their logs are not flooded."""
    env = {**GRPC, "OTEL_METRICS_EXPORT_INTERVAL_MILLIS": "100"}
    async with deployment(environ=env) as parts:
        user = await parts.user(0)
        for n in range(50):
            status, _ = await user.call("GET", "/api/v1/auths/", n % 2)
            assert status == 200
        await wait_for(
            lambda: "opentelemetry" in parts.workers[0].log.read_text(), 20, "a complaint"
        )
        log = parts.workers[0].log.read_text()
        assert log.count("Failed to export") <= 3, "once a minute and signal"
        assert await parts.workers[0].stop() == 0
