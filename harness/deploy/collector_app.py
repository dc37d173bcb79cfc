"""The run's own OpenTelemetry collector: OTLP over HTTP, spans into the history.

It takes what any exporter sends in protobuf, plain or compressed: traces are kept, metrics and
logs are only sent on, where `--forward` names another collector. What was answered with 200 has
been written.

Run it as `python -m harness.deploy.collector_app --host H --port P --history FOLDER --base B
--most N [--forward URL]`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import web

from harness.clock import RunClock
from harness.history.writer import HistoryWriter
from harness.traces.forward import Forwarder
from harness.traces.otlp import parse_export, span_records
from harness.traces.store import SpanStore

TRACES, OTHERS = "/v1/traces", ("/v1/metrics", "/v1/logs")
PROTOBUF = "application/x-protobuf"
MAX_BODY = 16 * 1024 * 1024
SAMPLE_PERIOD_S = 0.5
BAD_REQUEST = 400


@dataclass
class Collector:
    """What the handlers share."""

    writer: HistoryWriter
    store: SpanStore
    forwarder: Forwarder | None = None
    refused: int = 0

    def sample(self) -> dict[str, int]:
        """Return the counts so far."""
        sent, lost = (f.sent, f.lost) if (f := self.forwarder) else (0, 0)
        counts = {"spans": self.store.kept, "dropped": self.store.dropped}
        return counts | {"refused": self.refused, "forwarded": sent, "not_forwarded": lost}

    async def traces(self, request: web.Request) -> web.Response:
        """Answer POST /v1/traces."""
        try:
            _require_protobuf(request)
            body = await request.read()
            spans = parse_export(body)
        except (ValueError, web.RequestPayloadError) as error:  # the latter: not compressed as said
            self.refused += 1
            said = " ".join(str(error).split())
            self.writer.record("note", level="error", text=f"an export of spans: {said}")
            return web.Response(status=BAD_REQUEST, text=said)
        self.store.take(span_records(spans, self.writer.clock))
        return await self._answer(request, body)

    async def others(self, request: web.Request) -> web.Response:
        """Answer metrics and logs, which are not kept."""
        return await self._answer(request, await request.read())

    async def _answer(self, request: web.Request, body: bytes) -> web.Response:
        if self.forwarder is not None:
            await self.forwarder.send(request.path, body, request.content_type)
        return web.Response(body=b"", content_type=PROTOBUF)

    async def sampling(self, _: web.Application) -> AsyncIterator[None]:
        """Record the counts whenever they have changed."""
        task = asyncio.create_task(self._sample_changes())
        yield
        task.cancel()
        if self.forwarder is not None:
            await self.forwarder.close()
        self.writer.close()

    async def _sample_changes(self) -> None:
        last: dict[str, int] = {}
        while True:
            if (counts := self.sample()) != last:
                self.writer.record("sample", probe="collector", **counts)
                last = counts
            self.writer.pass_on()
            await asyncio.sleep(SAMPLE_PERIOD_S)


def _require_protobuf(request: web.Request) -> None:
    """Raise ValueError for another encoding than protobuf; aiohttp has decompressed the body."""
    if request.content_type != PROTOBUF:
        raise ValueError(f"expected {PROTOBUF}, got {request.content_type}")


def create_app(collector: Collector) -> web.Application:
    """Return the collector's application; it owns the writer."""
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post(TRACES, collector.traces)
    for path in OTHERS:
        app.router.add_post(path, collector.others)
    app.router.add_get("/", lambda _: _ready())
    app.cleanup_ctx.append(collector.sampling)
    return app


async def _ready() -> web.Response:
    return web.Response(text="OTLP over HTTP: POST /v1/traces")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="the run's OpenTelemetry collector")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--base", type=float, required=True)
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--forward", default="")
    options = parser.parse_args()
    writer = HistoryWriter(options.history, "spans", RunClock(options.base))

    def say(text: str) -> None:
        writer.record("note", level="warning", text=text)

    forwarder = Forwarder(options.forward.rstrip("/"), say) if options.forward else None
    collector = Collector(writer, SpanStore(writer, options.most), forwarder)
    web.run_app(
        create_app(collector),
        host=options.host,
        port=options.port,
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
        keepalive_timeout=60,
        shutdown_timeout=0.2,
    )


if __name__ == "__main__":
    main()
