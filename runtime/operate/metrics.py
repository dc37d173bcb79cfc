"""The worker's instruments, in Prometheus' words; `runtime.telemetry.bridge` sends them by OTLP.

What happens often is counted where it happens (commands, requests, loop lag, lock waits). What is
a state is read from the services when somebody asks (`StateCollector`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from runtime.redis.errors import BreakerOpen, RedisUnavailable
from runtime.supervision import Loop
from runtime.telemetry import spans

COMMAND_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_PERIOD_S = 0.25


def error_class(error: BaseException | None) -> str:
    """Return breaker_open, refused, no_answer, cancelled or mistake; empty without an error."""
    if error is None:
        return ""
    if isinstance(error, BreakerOpen):
        return "breaker_open"
    if isinstance(error, RedisUnavailable):
        return "refused" if error.refused else "no_answer"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "mistake"


class Metrics:
    """Counters and histograms of one worker, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._commands = self._histogram(
            "runtime_redis_command_duration_seconds",
            "One exchange with Redis, from the call to its replies.",
            ("client", "command"),
            COMMAND_BUCKETS,
        )
        self._command_errors = self._counter(
            "runtime_redis_command_errors",
            "Exchanges with Redis that failed, by class.",
            ("client", "command", "error"),
        )
        self._requests = self._histogram(
            "runtime_http_request_duration_seconds",
            "HTTP requests, until the last byte of the answer.",
            ("method", "route", "status"),
            REQUEST_BUCKETS,
        )
        self._loop_lag = self._histogram(
            "runtime_event_loop_lag_seconds",
            "How late a timer of the event loop fired.",
            (),
            LAG_BUCKETS,
        )
        self._lock_waits = self._histogram(
            "runtime_lock_wait_seconds", "How long a lock was waited for.", ("lock",), LAG_BUCKETS
        )
        self._by_command: dict[tuple[str, str], Histogram] = {}
        self._by_request: dict[tuple[str, str, int], Histogram] = {}

    def _histogram(
        self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, about: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def command(self, client: str, name: str, seconds: float, error: str) -> None:
        """Count one exchange with Redis; `error` is empty or a class of `error_class`."""
        found = self._by_command.get((client, name))
        if found is None:
            found = self._by_command[client, name] = self._commands.labels(client, name)
        found.observe(seconds)
        if error:
            self._command_errors.labels(client, name, error).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `route` is the path's pattern, never the path."""
        key = (method, route, status)
        found = self._by_request.get(key)
        if found is None:
            found = self._by_request[key] = self._requests.labels(method, route, status)
        found.observe(seconds)

    @contextmanager
    def waiting(self, lock: str) -> Iterator[None]:
        """Measure how long the block waits for a lock."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waited(lock, time.monotonic() - began)

    def waited(self, lock: str, seconds: float) -> None:
        """Count one wait for a lock."""
        self._lock_waits.labels(lock).observe(seconds)

    async def watch_lag(self, loop: Loop) -> None:
        """Measure how late timers fire. Runs for ever."""
        while True:
            due = time.monotonic() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self._loop_lag.observe(max(0.0, time.monotonic() - due))
            loop.succeeded()


class CommandObserver:
    """Measures a client's exchanges with Redis: a histogram always, a span where sampled."""

    def __init__(self, metrics: Metrics, client: str) -> None:
        self._metrics = metrics
        self._client = client

    def begin(self, name: str, count: int) -> Exchange:
        """Begin to measure; `name` is the command's, never with arguments."""
        return Exchange(self._metrics, self._client, name, spans.command(name, count))


class Exchange:
    """One exchange with Redis under measurement."""

    __slots__ = ("_began", "_client", "_metrics", "_name", "_span")

    def __init__(
        self, metrics: Metrics, client: str, name: str, span: spans.CommandSpan | None
    ) -> None:
        self._metrics, self._client, self._name, self._span = metrics, client, name, span
        self._began = time.perf_counter()

    def end(self, address: tuple[str, int] | None, error: BaseException | None) -> None:
        """Count it."""
        kind = error_class(error)
        took = time.perf_counter() - self._began
        self._metrics.command(self._client, self._name, took, kind)
        if self._span is not None:
            self._span.end(address, kind)
