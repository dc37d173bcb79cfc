"""The Prometheus instruments, exported by OTLP as they are: one set of metrics, two ways out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import CollectorRegistry

SCOPE = InstrumentationScope("runtime")
Labels = tuple[tuple[str, str], ...]


class BridgeReader(PeriodicExportingMetricReader):
    """Sends what the registry holds along with what libraries measured."""

    def __init__(
        self, exporter: Any, interval_ms: float, registry: CollectorRegistry, resource: Resource
    ) -> None:
        self._registry = registry
        self._resource = resource
        self._began = time.time_ns()
        super().__init__(exporter, export_interval_millis=interval_ms)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        metrics = list(to_otlp(self._registry.collect(), self._began, time.time_ns()))
        ours = ResourceMetrics(self._resource, [ScopeMetrics(SCOPE, metrics, "")], "")
        both = MetricsData([*metrics_data.resource_metrics, ours])
        super()._receive_metrics(both, timeout_millis, **kwargs)


def to_otlp(families: Iterable[Family], began: int, now: int) -> Iterator[Metric]:
    """Yield each Prometheus family as an OTLP metric; times in nanoseconds since the epoch."""
    for family in families:
        if family.type == "histogram":
            points = list(_histogram_points(family, began, now))
            data: Any = Histogram(points, AggregationTemporality.CUMULATIVE)
        elif family.type == "counter":
            numbers = _numbers(family, f"{family.name}_total", began, now)
            data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(_numbers(family, family.name, 0, now))
        if data.data_points:
            yield Metric(family.name, family.documentation, _unit(family.name), data)


def _unit(name: str) -> str:
    if name.endswith("_seconds"):
        return "s"
    return "By" if name.endswith("_bytes") else "1"


def _numbers(family: Family, name: str, began: int, now: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(dict(sample.labels), began, now, sample.value)
        for sample in family.samples
        if sample.name == name
    ]


def _histogram_points(family: Family, began: int, now: int) -> Iterator[HistogramDataPoint]:
    """Yield a point per set of labels; Prometheus' buckets are cumulative, OTLP's are not."""
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    sums: dict[Labels, float] = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, cumulative in buckets.items():
        bounds = [bound for bound, _ in cumulative[:-1]]
        counts = [int(count) for _, count in cumulative]
        each = [b - a for a, b in zip([0, *counts], counts, strict=False)]
        yield HistogramDataPoint(
            dict(labels), began, now, counts[-1], sums[labels], each, bounds, 0, 0
        )
