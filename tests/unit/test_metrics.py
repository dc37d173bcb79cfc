"""The instruments: documented, exported twice the same, and counted right."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

from runtime.operate.metrics import CommandObserver, Metrics, error_class
from runtime.redis.client import name_of
from runtime.redis.errors import BreakerOpen, RedisUnavailable
from runtime.services import Services
from runtime.settings import load_settings
from runtime.telemetry.bridge import to_otlp

ROOT = Path(__file__).parents[2]
ENVIRON = {"REDIS_URL": "redis://127.0.0.1:1/0", "WEBUI_SECRET_KEY": "s" * 32}


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    """docs/telemetry.md holds exactly what a worker with Redis exposes."""
    here = Services(load_settings(ENVIRON))
    found = set()
    for family in here.metrics.registry.collect():
        if not family.name.startswith("process_"):
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    table = (ROOT / "docs/telemetry.md").read_text().split("## Metrics")[1].split("## Logs")[0]
    rows = set(re.findall(r"^\| `(runtime_\w+)` \|", table, re.MULTILINE))
    assert rows == found


def test_the_bridge_keeps_counts_sums_and_buckets() -> None:
    """An OTLP histogram's buckets are single counts; a counter is a monotonic sum."""
    metrics = Metrics()
    for seconds in (0.0004, 0.0004, 0.02, 5.0):
        metrics.command("commands", "GET", seconds, "")
    metrics.command("commands", "GET", 0.001, "refused")
    found = {m.name: m for m in to_otlp(metrics.registry.collect(), 1, 2)}
    histogram = found["runtime_redis_command_duration_seconds"]
    assert isinstance(histogram.data, Histogram)
    assert histogram.unit == "s"
    (point,) = histogram.data.data_points
    assert point.count == 5
    assert sum(point.bucket_counts) == 5
    assert point.bucket_counts[0] == 2
    assert point.bucket_counts[-1] == 1
    assert len(point.explicit_bounds) == len(point.bucket_counts) - 1
    assert point.sum == pytest.approx(5.0218)
    errors = found["runtime_redis_command_errors"].data
    assert isinstance(errors, Sum)
    assert errors.is_monotonic
    assert errors.data_points[0].attributes["error"] == "refused"
    assert isinstance(found["process_open_fds"].data, Gauge)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (None, ""),
        (BreakerOpen("x", refused=True), "breaker_open"),
        (RedisUnavailable("x", refused=True), "refused"),
        (RedisUnavailable("x"), "no_answer"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("x"), "mistake"),
    ],
)
def test_classes_of_errors(error: BaseException | None, name: str) -> None:
    """An indefinite failure is told from a refusal."""
    assert error_class(error) == name


def test_an_exchange_counts_its_error() -> None:
    """A failed exchange is in the histogram and among the errors."""
    metrics = Metrics()
    CommandObserver(metrics, "commands").begin("GET", 1).end(None, RedisUnavailable("x"))
    value = metrics.registry.get_sample_value(
        "runtime_redis_command_errors_total",
        {"client": "commands", "command": "GET", "error": "no_answer"},
    )
    assert value == 1


def test_names_of_exchanges_hold_no_arguments() -> None:
    """A pipeline is named by what is common to its commands."""
    assert name_of([("get", "secret")]) == "GET"
    assert name_of([("SET", "a", "secret"), ("SET", "b", 1)]) == "PIPELINE SET"
    assert name_of([("SET", "a", "secret"), ("GET", "b")]) == "PIPELINE"


HEAVY = (
    *("opentelemetry.exporter", "opentelemetry.instrumentation", "opentelemetry.sdk.trace"),
    "grpc",
)


def test_a_worker_without_opentelemetry_imports_none_of_its_heavy_parts() -> None:
    """No exporter, no instrumentation, no tracer, no grpc. FastAPI and redis-py import the API."""
    program = f"""
import sys
from runtime.app import create_app
from runtime.settings import load_settings
create_app(load_settings({ENVIRON!r}))
print([m for m in sys.modules if m.startswith({HEAVY!r}) or m.startswith("runtime.telemetry.")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    light = {"logs", "middleware", "options", "outlet", "spans"}
    allowed = [f"runtime.telemetry.{name}" for name in light]
    assert set(ast.literal_eval(done.stdout)) <= set(allowed)
