"""A real nginx in front of workers: pins, balance, headers, its faults, and a short run."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from net_parts import guarded

from harness.clock import RunClock
from harness.deploy.balancer import find_nginx, start_balancer
from harness.deploy.model import Deployment, Worker
from harness.errors import UserError
from harness.faults.balancer import BalancerFault, BalancerRemove, choose_from
from harness.faults.base import FaultError
from harness.faults.context import FaultContext
from harness.load.entry import Entry
from harness.plan import PlannedFault
from harness.scenario import Redis
from tests.integration.container_parts import boxed_part
from tests.integration.harness_cli import (
    harness,
    only_run,
    processes_naming,
    scenario_text,
    summary,
)
from tests.starved import TRIES, starved

pytestmark = pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
NUMBER = web.AppKey("NUMBER", int)
HEADERS = {"X-Forwarded-For": "10.0.0.7"}


async def _answer(request: web.Request) -> web.StreamResponse:
    """Answer with the request's headers, or echo on a socket."""
    if request.path != "/ws/":
        return web.json_response(dict(request.headers))
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(f"{request.app[NUMBER]} {message.data}")
    return ws


async def _serve(worker: Worker) -> web.AppRunner:
    app = web.Application()
    app[NUMBER] = worker.number
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, worker.host, worker.port).start()
    return runner


class Front:
    """nginx in front of three workers of this process, and a client."""

    def __init__(self, deployment: Deployment, context: FaultContext) -> None:
        self.deployment = deployment
        self.context = context
        self.entry = Entry.of(deployment)
        self.http = aiohttp.ClientSession()

    async def get(self, worker: int | None = None) -> tuple[int | None, dict[str, str]]:
        """Return who served a request, and the headers that reached the worker."""
        headers = HEADERS | self.entry.pin(worker)
        async with self.http.get(f"{self.entry.balancer}/x", headers=headers) as response:
            assert response.status == 200
            return self.entry.served(response.headers), json.loads(await response.read())

    async def socket(self, worker: int) -> aiohttp.ClientWebSocketResponse:
        """Open a socket on a worker."""
        return await self.http.ws_connect(
            f"{self.entry.balancer}/ws/", headers=self.entry.pin(worker)
        )

    def fault(self, action: str) -> BalancerFault:
        """Return a fault on the balancer."""
        spec = {"kind": "balancer", "action": action, "for_s": 1.0}
        return BalancerFault(PlannedFault("f0", 0.0, 1.0, spec), self.deployment, self.context)


@asynccontextmanager
async def _front(folder: Path, image: str | None) -> AsyncIterator[Front]:
    async with guarded(folder) as (guardian, deployment):
        deployment.workers = [
            Worker(n, f"{deployment.subnet}.{50 + n}", 8080, f"worker-{n}") for n in range(3)
        ]
        runners = [await _serve(worker) for worker in deployment.workers]
        boxed = None if image is None else await boxed_part(guardian, deployment, image)
        await start_balancer(guardian, deployment, guardian.run, boxed)
        context = FaultContext(guardian, None, Redis(), guardian.run, RunClock())
        front = Front(deployment, context)
        try:
            yield front
        finally:
            await front.http.close()
            await asyncio.gather(*(runner.cleanup() for runner in runners))


@pytest.fixture(params=["process", "containers"])
async def front(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    """Yield a started front; the folder's name has a blank, as users' folders have."""
    image = None
    if request.param == "containers":
        image = request.getfixturevalue("images")["nginx"]
    async with _front(tmp_path / "a folder", image) as made:
        yield made


async def test_a_pin_is_kept_and_the_rest_is_balanced(front: Front) -> None:
    """Each worker serves exactly its own, and a share of what nobody pinned."""
    for worker in (0, 1, 2, 1):
        assert (await front.get(worker))[0] == worker
    seen = Counter([(await front.get())[0] for _ in range(30)])
    assert set(seen) == {0, 1, 2}
    assert min(seen.values()) >= 5


async def test_workers_see_the_client_and_not_the_pin(front: Front) -> None:
    """The forwarded address comes first, the balancer's peer last, and the host is kept."""
    _, seen = await front.get(1)
    assert seen["X-Forwarded-For"] == "10.0.0.7, 127.0.0.1"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["Host"] == front.entry.balancer.removeprefix("http://")
    assert "X-Harness-Worker" not in seen


async def test_a_pin_of_nobody_is_refused(front: Front) -> None:
    """It is not quietly balanced."""
    async with front.http.get(front.entry.balancer, headers=front.entry.pin(7)) as response:
        assert response.status == 421


async def test_a_reload_keeps_sockets_and_serves_on(front: Front) -> None:
    """A new worker process takes over, and the old one still carries the socket."""
    ws = await front.socket(2)
    fault = front.fault("reload")
    fault.target = await fault.aim()
    assert fault.available() is None
    assert not fault.closes_sockets
    await fault.inject()
    assert "was followed by" in await fault.confirm()
    await fault.heal()
    assert "serves what was open before" in await fault.confirm_heal()
    await ws.send_str("still here")
    assert (await ws.receive()).data == "2 still here"
    assert (await front.get(0))[0] == 0
    await ws.close()


async def test_a_restart_closes_sockets_and_comes_back(front: Front) -> None:
    """It ends on purpose, refuses meanwhile, and serves again at the same address."""
    ws = await front.socket(1)
    fault = front.fault("restart")
    before = fault.process
    assert fault.closes_sockets
    await fault.inject()
    assert "refuses connections" in await fault.confirm()
    assert front.context.expects_exit(before)
    assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    with pytest.raises(aiohttp.ClientConnectionError):
        await front.get(1)
    await fault.heal()
    assert "answers for a worker" in await fault.confirm_heal()
    assert fault.process.pid != before.pid
    assert (await front.get(1))[0] == 1


async def test_a_worker_is_taken_out_and_put_in_again(front: Front) -> None:
    """Nobody is sent there, who was there stays, and a pin still leads there."""
    spec = {"kind": "balancer-remove", "workers": "worker:1", "for_s": 1.0}
    planned = PlannedFault("f0", 0.0, 1.0, spec)
    fault = BalancerRemove(planned, front.deployment, front.context)
    ws = await front.socket(1)
    fault.target = await fault.aim()
    assert fault.target.workers == [1]
    await fault.inject()
    assert "worker-1" not in await fault.confirm()
    assert {(await front.get())[0] for _ in range(12)} == {0, 2}
    assert (await front.get(1))[0] == 1
    await ws.send_str("still here")
    assert (await ws.receive()).data == "1 still here"
    await fault.heal()
    assert "to worker-1" in await fault.confirm_heal()
    await ws.close()


async def test_the_last_worker_is_not_taken_out(front: Front) -> None:
    """Nginx would refuse such a configuration, and go on by the old one without a word."""
    with pytest.raises(FaultError, match="no worker left"):
        await choose_from(front.deployment, without={0, 1, 2})
    assert (await front.get(2))[0] == 2


async def test_a_reload_that_nobody_hears_has_no_evidence(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the signal does not arrive, the fault is not confirmed."""
    monkeypatch.setattr("harness.faults.balancer.CHANGE_S", 0.3)
    fault = front.fault("reload")
    monkeypatch.setattr(type(fault.process), "signal", lambda *_: None)
    await fault.inject()
    with pytest.raises(FaultError, match="starts a new worker process"):
        await fault.confirm()


async def test_a_fault_without_a_balancer_says_so(front: Front) -> None:
    """Both before the run and when it is to be injected."""
    front.deployment.balancer = None
    fault = front.fault("reload")
    assert "balancer: nginx" in str(fault.available())
    with pytest.raises(FaultError, match="balancer: nginx"):
        await fault.inject()


async def test_an_address_that_is_taken_is_told_with_the_log(tmp_path: Path) -> None:
    """It ends at start, and its own words are shown."""
    async with guarded(tmp_path) as (guardian, deployment):
        deployment.workers = [Worker(0, f"{deployment.subnet}.50", 8080, "worker-0")]
        taken = socket.create_server((f"{deployment.subnet}.4", 8080))
        with taken, pytest.raises(UserError, match="Address already in use"):
            await start_balancer(guardian, deployment, guardian.run)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the reports folder of a short run through nginx, with one reload."""
    folder = tmp_path_factory.mktemp("nginx")
    scenario = folder / "quick.yaml"
    scenario.write_text(
        scenario_text(
            balancer="nginx",
            workers="3",
            duration_s="8",
            bounds="{connections_settle_s: 3}",
            load="{users: 15, reads_per_s: 10, chats: {tokens: 60, tokens_per_s: 10}}",
            faults="[{at: 2, kind: balancer, action: reload}]",
        )
    )
    for number in range(TRIES):
        reports = folder / str(number)
        done = harness("run", scenario, "--reports", reports, "--seed", "1")
        if not starved(summary(reports)):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    yield reports
    assert processes_naming(str(folder)) == []


def _records(reports: Path) -> list[dict[str, Any]]:
    path = only_run(reports) / "history" / "load-0.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_short_run_goes_through_nginx_and_keeps_every_guarantee(short_run: Path) -> None:
    """No socket is lost at the reload, and the run says that nginx was in front."""
    said = summary(short_run)
    assert said["verdict"] == "pass"
    findings = {finding["name"]: finding for finding in said["findings"]}  # type: ignore[attr-defined,index]  # JSON
    sockets = findings["sockets-kept-and-back"]["quantities"]
    assert (sockets["sockets"], sockets["lost"]) == (15, 0)
    run = only_run(short_run)
    assert "nginx" in orjson.loads((run / "run.json").read_bytes())["balancer"]
    assert "nginx 1." in (run / "report.html").read_text(encoding="utf-8")


def test_the_planned_reads_are_placed_by_nginx_and_the_worker_is_known(short_run: Path) -> None:
    """All workers had a share; every pinned operation has its worker in the request."""
    records = _records(short_run)
    asked = {record["id"]: record for record in records if record["k"] == "invoke"}
    answers = [r for r in records if r["k"] == "ok" and asked[r["id"]].get("worker", 0) is None]
    assert {asked[r["id"]]["op"] for r in answers} == {"me"}
    assert {r["worker"] for r in answers} == {0, 1, 2}
    planned = [r for r in asked.values() if r["op"] == "me" and "scheduled" in r]
    assert len(planned) == len(answers)
