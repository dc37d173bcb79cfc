"""Metrics, readiness and diagnostics of live workers, and who may see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from harness.waiting import wait_for
from tests.benchmarks.parts import sign_up, start_bench_worker
from tests.integration.app_deployment import PORT, REDIS, SUBNET, Deployment, User, deployment
from tests.live import live
from tests.otlp import grpc_receiver

TOKEN = "a-scraper's-token"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parts() -> AsyncIterator[Deployment]:
    """Yield one deployment for all tests of this file; its admin is `admin`."""
    async with deployment(environ={"METRICS_TOKEN": TOKEN}) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(parts: Deployment) -> User:
    """Return the first account."""
    return await parts.user()


async def scrape(parts: Deployment, token: str, worker: int = 0) -> tuple[int, str]:
    """Return status and text of /metrics."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with parts.http.get(f"{parts.urls[worker]}/metrics", headers=headers) as answer:
        return answer.status, await answer.text()


def value(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels."""
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


async def test_metrics_are_for_admins_and_the_scraper(parts: Deployment, admin: User) -> None:
    """By default neither strangers nor users read them."""
    user = await parts.user()
    tokens = ("", user.token, admin.token, TOKEN)
    assert [(await scrape(parts, token))[0] for token in tokens] == [401, 403, 200, 200]


async def test_a_client_that_hangs_up_is_no_error_of_ours(parts: Deployment, admin: User) -> None:
    """It went before its body was there: counted as 499, and no traceback in the log."""
    _, writer = await asyncio.open_connection(f"{SUBNET}.50", PORT)
    lines = ("POST /api/v1/chats/new HTTP/1.1", "Host: here")
    lines += (f"Authorization: Bearer {admin.token}", "Content-Length: 100", "", "{")
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    writer.close()

    async def counted() -> bool:
        text = (await scrape(parts, TOKEN))[1]
        return value(text, "runtime_http_request_duration_seconds_count", status="499") == 1

    await wait_for(counted, 10, "the request is over")
    assert "Exception in ASGI" not in parts.workers[0].log.read_text()


async def test_metrics_count_what_happened(parts: Deployment, admin: User) -> None:
    """Requests, commands, connections, listeners, tasks and sockets are what they are."""
    before = (await scrape(parts, TOKEN))[1]
    for _ in range(5):
        await admin.call("GET", "/api/v1/auths/", 0)
    await admin.connect(0)
    _, task = await admin.chat("m", 0)
    after = (await scrape(parts, TOKEN))[1]
    requests = "runtime_http_request_duration_seconds_count"
    route = {"route": "/api/v1/auths/", "method": "GET", "status": "200"}
    assert value(after, requests, **route) - value(before, requests, **route) == 5
    assert value(after, "runtime_tasks_active") == 1
    assert value(after, "runtime_sockets") == 1
    assert value(after, "runtime_redis_command_duration_seconds_count", client="commands") > 0
    for purpose in ("commands", "subscriber", "events-reader", "events-writer"):
        assert value(after, "runtime_redis_connections", purpose=purpose) == 1, purpose
    assert value(after, "runtime_loop_age_seconds", loop="task records") < 3
    assert "/api/tasks/stop/" + task not in after
    await admin.call("POST", f"/api/tasks/stop/{task}", 0)
    await admin.leave()


async def test_ready_lists_dependencies_and_loops(parts: Deployment) -> None:
    """Each with the age of its last success, also while all is well."""
    async with parts.http.get(f"{parts.urls[0]}/ready") as answer:
        body = await answer.json()
    assert {"database", "redis", "redis_events"} <= body["dependencies"].keys()
    for name, found in body["dependencies"].items():
        assert found["available"], name
        assert 0 <= found["age_s"] < 5, name
    assert {"task records", "stop intents", "event loop lag"} <= body["loops"].keys()
    assert all(loop["age_s"] >= 0 for loop in body["loops"].values())


async def _diagnostics(admin: User, worker: int) -> dict[str, Any]:
    status, body = await admin.call("GET", "/api/v1/diagnostics", worker)
    assert status == 200
    return body


async def test_diagnostics_tell_of_both_workers(parts: Deployment, admin: User) -> None:
    """Connections by purpose, leases and leader; nothing of another deployment."""
    other = Redis(host=REDIS)
    await other.set("somebody:tasks:1", "x")
    await other.aclose()
    await wait_for(lambda: _complete(admin), 10, "leases and a leader")
    found = await _diagnostics(admin, 0)
    redis = found["redis"]
    assert redis["errors"] == []
    assert redis["keys"]["complete"]
    assert redis["keys"]["by_kind"]["instances"] == 2
    assert "somebody" not in str(redis["keys"])
    for worker in ("w0", "w1"):
        purposes = redis["connections"]["by_instance"][worker]
        assert {"commands", "subscriber", "events-reader", "events-writer"} <= purposes.keys()
        assert 0 < redis["leases"][worker] <= 60
    other_worker = await _diagnostics(admin, 1)
    assert other_worker["settings_fingerprint"] == found["settings_fingerprint"]
    user = await parts.user()
    assert (await user.call("GET", "/api/v1/diagnostics"))[0] == 403


async def _complete(admin: User) -> bool:
    redis = (await _diagnostics(admin, 0))["redis"]
    return len(redis["leases"]) == 2 and bool(redis["leader"])


def _of_redis(spans: list[Any]) -> list[Any]:
    return [s for s in spans if s.attributes.get("db.system.name") == "redis"]


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_other_topologies_are_traced_and_diagnosed(topology: str, tmp_path: Path) -> None:
    """Commands have spans with their node; all primaries are asked for keys and clients."""
    endpoint = f"{SUBNET}.5:4317"
    with grpc_receiver(endpoint) as received:
        async with live(topology, tmp_path) as parts:
            worker = await start_bench_worker(
                parts, "one", ENABLE_OTEL="true", OTEL_BSP_SCHEDULE_DELAY="100",
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{endpoint}",
                ENABLE_STAR_SESSIONS_MIDDLEWARE="true",
            )  # fmt: skip
            token = (await sign_up(worker, "admin"))["token"]
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(headers=headers) as http:
                await (await http.post(f"{worker.url}/api/v1/session/data", json={"a": 1})).read()
                async with http.get(f"{worker.url}/api/v1/diagnostics") as answer:
                    found = (await answer.json())["redis"]
            redis = await wait_for(lambda: _of_redis(received.spans), 15, "spans of Redis arrive")
            nodes = {node.address for node in parts.deployment.nodes}
    assert {(s.attributes["server.address"], s.attributes["server.port"]) for s in redis} <= nodes
    assert found["mode"] == topology
    assert found["errors"] == []
    assert found["keys"]["by_kind"]["instances"] == 1
    purposes = found["connections"]["by_instance"]["one"]
    assert purposes["diagnostics"] == (3 if topology == "cluster" else 1)
