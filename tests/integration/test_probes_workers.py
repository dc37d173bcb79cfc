"""Probes of workers, against small Socket.IO servers that can go deaf, hang or drop sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import socketio
from aiohttp import web

from harness.clock import RunClock
from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Link, Worker
from harness.errors import UserError
from harness.history.writer import HistoryWriter
from harness.load.accounts import old_session
from harness.plan import Plan
from harness.probes.canary import CanaryProbe
from harness.probes.health import HealthProbe
from harness.probes.workers import WorkerProbe
from harness.waiting import wait_for

HOST = "127.96.252.50"


class StandIn:
    """A worker's routes for canaries and health. An event goes to the sockets of all workers."""

    def __init__(self, everybody: list[StandIn]) -> None:
        self.everybody = everybody
        self.deaf = False
        self.hangs = False
        self.refuses = ""
        self.cookies: list[str] = []  # of questions for /health
        self.sio = socketio.AsyncServer(async_mode="aiohttp")
        self.sio.on("user-join", self._join)
        self.app = web.Application()
        self.sio.attach(self.app, socketio_path="/ws/socket.io")
        self.app.router.add_post("/api/v1/chats/new", self._chat)
        self.app.router.add_post("/api/v1/chats/{chat}/messages/{id}/event", self._event)
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/ready", self._health)

    async def _join(self, _: str, data: dict[str, Any]) -> dict[str, str]:
        assert data == {"auth": {"token": "secret"}}
        return {"id": "u1", "name": "canary"}

    async def _chat(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        return web.json_response({"id": "chat-1"})

    async def _event(self, request: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.Event().wait()
        assert request.match_info["chat"] == "chat-1"
        payload = {"chat_id": "chat-1", "message_id": "m", "data": await request.json()}
        for worker in self.everybody:
            if not worker.deaf:
                await worker.sio.emit("events", payload)
        return web.json_response(True)

    async def _health(self, request: web.Request) -> web.Response:
        self.cookies.append(request.headers.get("Cookie", ""))
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses:
            return web.Response(text=self.refuses, status=503)
        return web.json_response({"status": True})

    async def drop_sockets(self) -> None:
        """Close every socket, as a worker does that ends."""
        await self.sio.eio.disconnect()


class Bench:
    """Stand-ins, their deployment, and what the probes record."""

    def __init__(self, root: Path, count: int) -> None:
        self.run = RunFolder.create(root)
        self.clock = RunClock()
        self.writer = HistoryWriter(self.run.history, "harness", self.clock)
        self.workers: list[StandIn] = []
        for _ in range(count):
            self.workers.append(StandIn(self.workers))
        self.deployment = Deployment("standalone", None, "127.96.252")  # type: ignore[arg-type]
        self.plan = Plan(1, {"focus": {"canaries_per_s": 20}}, (), ((0.0, 60.0),), ())
        self.run.accounts.write_bytes(orjson.dumps({"canary": {"token": "secret"}}))

    def canaries(self) -> CanaryProbe:
        """Return the canary probe."""
        return CanaryProbe(self.deployment, self.plan, self.run, self.writer)

    def begin_load(self) -> None:
        """Write the start file: load second 0 is now, and so is the focus."""
        (self.run.data / "start.json").write_bytes(orjson.dumps({"t0": self.clock.now()}))

    def records(self, k: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the records of a kind that have these fields."""
        self.writer.flush()
        records = map(orjson.loads, self.writer.path.read_bytes().splitlines())
        return [r for r in records if r["k"] == k and fields.items() <= r.items()]


@asynccontextmanager
async def serving(root: Path, count: int) -> AsyncIterator[Bench]:
    """Yield a bench whose stand-ins listen."""
    bench = Bench(root, count)
    async with AsyncExitStack() as stack:
        for number, worker in enumerate(bench.workers):
            runner = web.AppRunner(worker.app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            port = runner.addresses[0][1]
            bench.deployment.workers.append(Worker(number, HOST, port, f"worker-{number}"))
        yield bench
        bench.writer.close()


async def test_canaries_cross_every_pair_of_workers(tmp_path: Path) -> None:
    """Each canary is heard on every worker, its own included, and none twice."""
    async with serving(tmp_path, 3) as bench:
        probe = bench.canaries()
        await probe.start()
        bench.begin_load()
        await wait_for(lambda: len(bench.records("ok", op="event_post")) >= 30, 10, "30 posts")
        await wait_for(
            lambda: len(bench.records("canary")) >= 3 * len(bench.records("invoke")), 5, "all heard"
        )
        await probe.stop()
        heard = [(r["n"], r["origin"], r["at"]) for r in bench.records("canary")]
        assert len(heard) == len(set(heard))
        assert {(origin, at) for _, origin, at in heard} == {
            (i, j) for i in range(3) for j in range(3)
        }
        assert all(r["local"] == (r["origin"] == r["at"]) for r in bench.records("canary"))
        assert [r["event"] for r in bench.records("socket", socket="canary-w1")] == [
            "opened",
            "closed",
        ]


async def test_a_deaf_worker_shows(tmp_path: Path) -> None:
    """Posts are answered and others hear them; the deaf one does not."""
    async with serving(tmp_path, 2) as bench:
        bench.workers[1].deaf = True
        probe = bench.canaries()
        await probe.start()
        bench.begin_load()
        await wait_for(lambda: len(bench.records("canary", at=0)) >= 10, 10, "worker 0 hears")
        await probe.stop()
        assert bench.records("canary", at=1) == []


async def test_a_slow_worker_does_not_delay_the_others(tmp_path: Path) -> None:
    """Worker 0 answers no post; worker 1 keeps its rate, and every post of 0 was sent."""
    async with serving(tmp_path, 2) as bench:
        bench.workers[0].hangs = True
        probe = bench.canaries()
        await probe.start()
        bench.begin_load()
        await wait_for(lambda: len(bench.records("ok", origin=1)) >= 20, 10, "worker 1 posts")
        await probe.stop()
        assert bench.records("ok", origin=0) == []
        sent = len(bench.records("invoke", origin=0))
        assert sent >= len(bench.records("invoke", origin=1)) - 2


async def test_lost_sockets_come_back_and_that_is_recorded(tmp_path: Path) -> None:
    """A socket that the worker closes is opened again, and hears again."""
    async with serving(tmp_path, 2) as bench:
        probe = bench.canaries()
        await probe.start()
        bench.begin_load()
        await wait_for(lambda: bench.records("canary", at=0), 10, "worker 0 hears")
        await bench.workers[0].drop_sockets()
        name = "canary-w0"
        await wait_for(lambda: len(bench.records("socket", socket=name)) >= 3, 10, "it is back")
        events = bench.records("socket", socket=name)
        assert [r["event"] for r in events[:3]] == ["opened", "lost", "opened"]
        back = events[2]["t"]
        await wait_for(
            lambda: [r for r in bench.records("canary", at=0) if r["t"] > back], 10, "it hears"
        )
        await probe.stop()


async def test_a_worker_without_sockets_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what was expected, where, and what came."""
    monkeypatch.setattr("harness.probes.canary.OPEN_S", 0.3)
    async with serving(tmp_path, 1) as bench:
        gone = socket.create_server((HOST, 0))
        bench.deployment.workers = [Worker(0, *gone.getsockname(), "worker-0")]
        gone.close()
        probe = bench.canaries()
        with pytest.raises(UserError, match=r"/ws/socket\.io: expected a Socket\.IO connection"):
            await probe.start()
        await probe.stop()


async def test_health_is_asked_on_time_although_a_worker_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hang is status 0 after the time-out; the next questions are asked meanwhile."""
    monkeypatch.setattr("harness.probes.health.PERIOD_S", 0.05)
    monkeypatch.setattr("harness.probes.health.TIMEOUT_S", 0.4)
    async with serving(tmp_path, 2) as bench:
        bench.workers[1].hangs = True
        probe = HealthProbe(bench.deployment, bench.writer)
        await probe.start()
        await wait_for(
            lambda: len(bench.records("sample", worker=1, path="/health")) >= 3, 10, "3 hangs"
        )
        await probe.stop()
        good = bench.records("sample", worker=0, path="/ready")
        assert len(good) >= 5
        assert {r["status"] for r in good} == {200}
        hung = bench.records("sample", worker=1, path="/health")
        assert {r["status"] for r in hung} == {0}
        assert all(r["ms"] >= 390 and "no answer within" in r["error"] for r in hung)
        sent = [r["sent"] for r in hung]
        assert sent[1] - sent[0] < 0.39


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"status": false, "detail": "Redis not ready"}', "Redis not ready"),
        ("no JSON", "no JSON"),
        ("[" + "x" * 400, "[" + "x" * 299),
    ],
)
async def test_a_refusal_is_recorded_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, detail: str
) -> None:
    """A stray 503 of /ready can be explained from the history alone."""
    monkeypatch.setattr("harness.probes.health.PERIOD_S", 0.05)
    async with serving(tmp_path, 1) as bench:
        bench.workers[0].refuses = body
        probe = HealthProbe(bench.deployment, bench.writer)
        await probe.start()
        await wait_for(lambda: bench.records("sample", path="/ready"), 10, "a sample")
        bench.workers[0].refuses = ""
        await wait_for(lambda: bench.records("sample", status=200), 10, "it serves again")
        await probe.stop()
        refused = bench.records("sample", status=503)
        assert {r["detail"] for r in refused} == {detail}
        assert all("detail" not in r for r in bench.records("sample", status=200))


async def test_health_is_asked_with_the_cookie_of_a_browser_that_was_here_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose sessions are broken answers it with an error, and only then."""
    monkeypatch.setattr("harness.probes.health.PERIOD_S", 0.05)
    for cookie in ("", old_session()):
        async with serving(tmp_path / (cookie or "none"), 1) as bench:
            probe = HealthProbe(bench.deployment, bench.writer, cookie)
            await probe.start()
            await wait_for(lambda: bench.records("sample", path="/ready"), 10, "a sample")
            await probe.stop()
            assert set(bench.workers[0].cookies) == {cookie}


async def test_connections_are_counted_per_node_from_outside(tmp_path: Path) -> None:
    """A worker's established sockets to its own links count, others do not."""
    bench = Bench(tmp_path, 0)
    with socket.create_server((HOST, 0)) as mine, socket.create_server((HOST, 0)) as other:
        link = Link("w0-redis-0", 0, "redis-0", mine.getsockname(), ("127.96.252.10", 6379))
        bench.deployment.links = [link]
        worker = Worker(0, HOST, 1, "worker-0")
        log = tmp_path / "worker.log"
        log.write_text("hello\n")
        process = SimpleNamespace(pid=os.getpid(), exit_status=None, log=log)
        worker.process = process  # type: ignore[assignment]  # this one
        bench.deployment.workers = [worker]
        probe = WorkerProbe(bench.deployment, bench.writer)
        with (
            socket.create_connection(mine.getsockname()),
            socket.create_connection(mine.getsockname()),
            socket.create_connection(other.getsockname()),
        ):
            await probe.start()
            await wait_for(lambda: bench.records("sample", connections=2), 5, "two are counted")
        await wait_for(lambda: bench.records("sample", connections=0), 5, "they are gone again")
        await probe.stop()
    sample = bench.records("sample", connections=2)[0]
    assert sample["nodes"] == {"redis-0": 2}
    assert sample["rss"] > 10_000_000
    assert sample["fds"] > 5
    assert sample["threads"] >= 1
    assert 0 <= sample["cpu"] <= 8
    assert sample["log"] == len("hello\n")
    bench.writer.close()
