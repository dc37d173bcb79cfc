"""ENABLE_OTEL: providers, exporters and instrumentation of one worker, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from prometheus_client.registry import CollectorRegistry

from runtime.telemetry import spans
from runtime.telemetry.exporters import exporter
from runtime.telemetry.logs import redacted
from runtime.telemetry.options import RATIO_SAMPLERS, TelemetryOptions, parse_pairs
from runtime.telemetry.tracing import OtelTracing

log = logging.getLogger(__name__)

FLUSH_WITHIN_S = 2.0
UNWATCHED = "health,ready,metrics"  # probes would be most of all traces


def resource_of(options: TelemetryOptions, instance: str) -> Resource:
    """Return who we are: service, this worker's instance id, what the settings add."""
    given = parse_pairs(options.otel_resource_attributes)
    own: dict[str, Any] = {
        "service.name": options.otel_service_name,
        "service.instance.id": instance,
        "process.pid": os.getpid(),
    }
    return Resource.create({**given, **own})


class NoOrphans(sampling.Sampler):
    """Lets only requests begin traces: background loops would fill the collector."""

    def __init__(self, inner: sampling.Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        *rest: Any,
        **more: Any,
    ) -> sampling.SamplingResult:
        """Decide as the settings say, but for orphans."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if kind is not SpanKind.SERVER and not parent.is_valid:
            return sampling.SamplingResult(sampling.Decision.DROP)
        return self._inner.should_sample(parent_context, trace_id, name, kind, *rest, **more)

    def get_description(self) -> str:
        """Return its name."""
        return f"NoOrphans({self._inner.get_description()})"


def sampler_of(options: TelemetryOptions) -> sampling.Sampler:
    """Return the sampler that OTEL_TRACES_SAMPLER names."""
    name, ratio = options.otel_traces_sampler, options.otel_traces_sampler_arg
    root: sampling.Sampler = sampling.ALWAYS_OFF if name.endswith("off") else sampling.ALWAYS_ON
    if name in RATIO_SAMPLERS:
        root = sampling.TraceIdRatioBased(1.0 if ratio is None else ratio)
    return NoOrphans(sampling.ParentBased(root) if name.startswith("parentbased") else root)


class Telemetry:
    """What ENABLE_OTEL started. Nothing of it ever blocks the event loop."""

    def __init__(
        self, options: TelemetryOptions, instance: str, registry: CollectorRegistry
    ) -> None:
        self._ends: list[Callable[[], Any]] = []
        self._options = options
        self._resource = resource_of(options, instance)
        self._meters: Any = None
        self.traces: TracerProvider | None = None
        if options.sends("metrics"):
            self._start_metrics(registry)
        if options.sends("traces"):
            self._start_traces()
        if options.sends("logs"):
            self._start_logs()

    def _start_traces(self) -> None:
        self.traces = TracerProvider(
            sampler=sampler_of(self._options), resource=self._resource, shutdown_on_exit=False
        )
        self.traces.add_span_processor(BatchSpanProcessor(exporter(self._options, "traces")))
        self._ends.append(self.traces.shutdown)
        spans.install(OtelTracing(self.traces.get_tracer("runtime.redis")))
        self._instrument_clients(self.traces)

    def _instrument_clients(self, provider: TracerProvider) -> None:
        """Instrument what we call by HTTP; must precede the first client session."""
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

        instrumentors: list[Any] = [AioHttpClientInstrumentor()]
        if find_spec("httpx"):
            from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

            instrumentors.append(HTTPXClientInstrumentor())
        for one in instrumentors:
            one.instrument(tracer_provider=provider, meter_provider=self._meters)
            self._ends.append(one.uninstrument)

    def instrument_engine(self, engine: Any) -> None:
        """Instrument a SQLAlchemy engine: statements, never their parameters."""
        if self.traces is None:
            return
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        one = SQLAlchemyInstrumentor()
        one.instrument(
            engine=engine,
            tracer_provider=self.traces,
            meter_provider=self._meters,
            skip_dep_check=True,  # it has not been told of SQLAlchemy 2.1
        )
        self._ends.append(one.uninstrument)

    def instrument_app(self, app: Any) -> None:
        """Put the instrumentation of requests around the application: ours or the stock one."""
        if self.traces is None:
            return
        if self._options.otel_instrumentation == "light":
            from runtime.telemetry.requests import RequestSpans

            app.add_middleware(RequestSpans, tracer=self.traces.get_tracer("runtime"))
            return
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app,
            tracer_provider=self.traces,
            meter_provider=self._meters,
            excluded_urls=UNWATCHED,
        )

    def _start_metrics(self, registry: CollectorRegistry) -> None:
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider

        from runtime.telemetry.bridge import BridgeReader

        options = self._options
        reader = BridgeReader(
            exporter(options, "metrics"),
            options.otel_metrics_export_interval_millis,
            registry,
            self._resource,
        )
        self._meters = MeterProvider([reader], resource=self._resource, shutdown_on_exit=False)
        # a reader without any instrument of the SDK's own is never called
        self._meters.get_meter("runtime").create_observable_gauge(
            "runtime_up", [lambda _: [Observation(1)]]
        )
        self._ends.append(self._meters.shutdown)

    def _start_logs(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        provider = LoggerProvider(resource=self._resource, shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter(self._options, "logs")))
        handler = _log_handler(provider)
        logging.getLogger().addHandler(handler)
        self._ends += [lambda: logging.getLogger().removeHandler(handler), provider.shutdown]

    async def stop(self) -> None:
        """Flush and end everything, within 2 s: what a dead collector does not take is lost."""
        spans.install(None)
        ends, self._ends = self._ends, []
        waiting = [_in_thread(end) for end in ends]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=FLUSH_WITHIN_S)
            if late:
                log.warning("telemetry: not all was exported within %g s", FLUSH_WITHIN_S)


def _in_thread(end: Callable[[], Any]) -> asyncio.Future[None]:
    """Run something in a thread that does not keep the process: an export may hang."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            end()
        except Exception:  # the others have to end too
            log.exception("telemetry: ending failed")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, done)

    threading.Thread(target=run, daemon=True, name="telemetry end").start()
    return done


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _log_handler(provider: Any) -> logging.Handler:
    """Return the library's handler, for records without secrets, and none of its own logs."""
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

    class Handler(LoggingHandler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.name.startswith("opentelemetry"):  # a failing export would feed itself
                super().emit(redacted(record))

    return Handler(logger_provider=provider)
