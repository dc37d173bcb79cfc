"""The run's collector as a process of a run: what it takes, what it writes, what it sends on."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from harness.clock import RunClock
from harness.deploy.collector import start_collector
from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Deployment
from harness.deploy.spawner import Guardian
from harness.history.reader import read_history
from harness.targets import get_target
from harness.telemetry_specs import Telemetry
from harness.waiting import wait_for
from tests.otlp import http_receiver
from tests.unit.test_traces_spans import TRACE, export

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@asynccontextmanager
async def collector(folder: Path, **forward: str) -> AsyncIterator[tuple[RunFolder, Deployment]]:
    """Start a collector alone; the guardian ends it."""
    run, lease = RunFolder.create(folder), Lease.acquire()
    guardian = await Guardian.start(run, lease)
    try:
        deployment = Deployment("standalone", get_target("runtime"), lease.subnet)
        forward = {name: url.replace("SUBNET", lease.subnet) for name, url in forward.items()}
        await start_collector(guardian, deployment, run, RunClock(), Telemetry(), **forward)
        yield run, deployment
    finally:
        await guardian.stop()


async def post(deployment: Deployment, path: str, body: bytes, **headers: str) -> int:
    """Send an export; return the answer's status."""
    assert deployment.tracing is not None
    url = deployment.tracing.collector + path
    sent = PROTOBUF | {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=sent) as answer:
        return answer.status


def records(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind so far."""
    return [record for record in read_history(run.history) if record["k"] == kind]


async def test_spans_are_on_disk_when_they_are_acknowledged(tmp_path: Path) -> None:
    """Plain or compressed; the collector gets SIGKILL at the end, and nothing is lost by it."""
    body = export().SerializeToString()
    async with collector(tmp_path / "run") as (run, deployment):
        assert await post(deployment, "/v1/traces", body) == 200
        assert len(records(run, "span")) == 1
        packed = gzip.compress(body)
        assert await post(deployment, "/v1/traces", packed, Content_Encoding="gzip") == 200
        assert [span["trace"] for span in records(run, "span")] == [TRACE, TRACE]
        assert await post(deployment, "/v1/metrics", b"") == 200
    assert len(records(run, "span")) == 2


async def test_what_is_no_export_is_refused_and_noted(tmp_path: Path) -> None:
    """The exporter hears what was expected, and the run does not pass for whole."""
    async with collector(tmp_path / "run") as (run, deployment):
        assert await post(deployment, "/v1/traces", b"{}", Content_Type="application/json") == 400
        assert await post(deployment, "/v1/traces", b"no protobuf") == 400
        assert await post(deployment, "/v1/traces", b"zipped?", Content_Encoding="gzip") == 400
        assert records(run, "span") == []

        def counted() -> bool:
            samples = records(run, "sample")
            return bool(samples) and samples[-1]["refused"] >= 2

        await wait_for(counted, 10, "refused exports are counted")
        notes = [note["text"] for note in records(run, "note")]
        assert any("expected application/x-protobuf, got application/json" in n for n in notes)


async def test_everything_is_sent_on_when_told(tmp_path: Path) -> None:
    """Traces, metrics and logs, as they came; the run's own copy is the same."""
    lease = Lease.acquire()
    body = export().SerializeToString()
    with http_receiver(f"{lease.subnet}.9", 4318) as received:
        url = f"http://{lease.subnet}.9:4318"
        async with collector(tmp_path / "run", forward=url) as (run, deployment):
            for path in ("/v1/traces", "/v1/metrics", "/v1/logs"):
                sent = body if path == "/v1/traces" else b""
                assert await post(deployment, path, sent) == 200
        assert [span.trace for span in received.spans] == [TRACE]
        assert len(received.raw) == 3
    lease.close()
    assert len(records(run, "span")) == 1


async def test_a_collector_elsewhere_that_is_away_costs_nothing(tmp_path: Path) -> None:
    """It is noted once, exports are still taken, and what was not sent on is counted."""
    body = export().SerializeToString()
    async with collector(tmp_path / "run", forward="http://SUBNET.9:4318") as (run, deployment):
        for _ in range(5):
            assert await post(deployment, "/v1/traces", body) == 200
        assert len(records(run, "span")) == 5

        def counted() -> bool:
            samples = records(run, "sample")
            return bool(samples) and samples[-1]["not_forwarded"] == 5

        await wait_for(counted, 10, "exports that were not sent on are counted")
        notes = [note["text"] for note in records(run, "note")]
        assert len(notes) == 1
        assert "do not reach http://" in notes[0]
