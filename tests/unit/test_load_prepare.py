"""Accounts are made a few at a time; a request is sent when its turn comes, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from harness.clock import RunClock
from harness.deploy.lease import Lease
from harness.history.reader import read_history
from harness.history.writer import HistoryWriter
from harness.load.entry import Entry
from harness.load.prepare import AT_ONCE_PER_WORKER, AccountMaker
from harness.options import changed
from harness.plan import Plan, make_plan
from harness.scenario import load_scenario

PORT = 8080
USERS = 5 * AT_ONCE_PER_WORKER


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the address of an app that knows everybody, and takes its time."""

    async def known(request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.json_response({"id": request.path, "token": "token"})

    app = web.Application()
    app.router.add_post("/api/v1/auths/{route}", known)
    runner = web.AppRunner(app)
    await runner.setup()
    lease = Lease.acquire()
    await web.TCPSite(runner, f"{lease.subnet}.2", PORT).start()
    yield f"http://{lease.subnet}.2:{PORT}"
    await runner.cleanup()
    lease.close()


def plan(folder: Path) -> Plan:
    """Return a plan that needs far more accounts than are signed in at once."""
    path = folder / "quick.yaml"
    path.write_text(
        "name: quick\nstory: Somebody signs in, and many others.\ntopology: standalone\n"
    )
    scenario = changed(load_scenario(path), {"load.users": USERS})
    return make_plan(scenario, 1)


async def test_what_waits_for_its_turn_is_not_sent_yet(url: str, tmp_path: Path) -> None:
    """Else the harness's own queue would be judged as the time that the target takes."""
    writer = HistoryWriter(tmp_path, "prepare", RunClock())
    async with aiohttp.ClientSession() as http:
        accounts = await AccountMaker(http, Entry((url,)), writer).make(plan(tmp_path))
    writer.close()
    waiting = most = 0
    for record in read_history(tmp_path):
        waiting += {"invoke": 1, "ok": -1}.get(record["k"], 0)
        most = max(most, waiting)
    assert len(accounts.users) == USERS
    assert waiting == 0
    assert 0 < most <= AT_ONCE_PER_WORKER
