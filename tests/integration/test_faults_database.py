"""A real PostgreSQL is stopped, paused and filled, and whole again, with evidence of both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from net_parts import guarded
from test_faults_worker import spec

from harness.clock import RunClock
from harness.deploy.model import Database
from harness.deploy.postgres import find_program, start_postgres
from harness.faults.base import Fault, FaultError
from harness.faults.context import FaultContext
from harness.faults.database import connect
from harness.faults.injector import KINDS
from harness.plan import PlannedFault
from harness.scenario import Redis
from harness.waiting import wait_for

pytestmark = pytest.mark.skipif(find_program("postgres") is None, reason="no PostgreSQL")


@asynccontextmanager
async def aimed(folder: Path, kind: str, **more: Any) -> AsyncIterator[Fault]:
    """Start a server that takes 12 connections; give a fault that is aimed at it."""
    async with guarded(folder) as (guardian, deployment):
        deployment.database = await start_postgres(
            guardian, f"{deployment.subnet}.4", connections=12
        )
        context = FaultContext(guardian, None, Redis(), guardian.run, RunClock())
        planned = PlannedFault("f0", 0.0, 1.0, spec(kind, **more))
        fault = KINDS[kind](planned, deployment, context)
        assert fault.available() is None
        fault.target = await fault.aim()
        yield fault


def server_of(fault: Fault) -> Database:
    """Return the server that a fault is aimed at."""
    assert fault.deployment.database is not None
    return fault.deployment.database


async def answer(fault: Fault) -> object:
    """Ask the database something on a new connection."""
    async with await connect(server_of(fault)) as connection:
        row = await (await connection.execute("SELECT 7")).fetchone()
        assert row is not None
        return row[0]


async def test_a_database_is_stopped_and_started_on_its_data(tmp_path: Path) -> None:
    """Its connections end, its address refuses, its data is there again; its exit was meant."""
    async with aimed(tmp_path, "database-restart") as fault:
        server = server_of(fault)
        process = server.process
        assert process is not None
        user = await connect(server)
        await user.execute("CREATE TABLE kept AS SELECT 5 AS five")
        await fault.inject()
        evidence = await fault.confirm()
        assert f"postgres (pid {process.pid}) ended with status 0" in evidence
        assert "refuses connections" in evidence
        assert fault.context.expects_exit(process)
        with pytest.raises(psycopg.OperationalError):
            await user.execute("SELECT 1")
        await user.close()
        await fault.heal()
        assert "answers a query again" in await fault.confirm_heal()
        async with await connect(server) as again:
            assert await (await again.execute("SELECT five FROM kept")).fetchone() == (5,)


async def test_a_paused_database_is_silent_on_every_connection(tmp_path: Path) -> None:
    """Neither old nor new connections are answered, none is closed; afterwards the old one is."""
    async with aimed(tmp_path, "database-pause") as fault:
        user = await connect(server_of(fault))
        await fault.inject()
        evidence = await fault.confirm()
        assert "is in state T, no answer to a new connection within 300 ms" in evidence
        assert "so are its" in evidence
        await fault.heal()
        assert "answers a query again" in await fault.confirm_heal()
        assert await (await user.execute("SELECT 1")).fetchone() == (1,)
        await user.close()


@pytest.mark.parametrize("evict", [False, True])
async def test_all_connections_are_taken_and_given_back(tmp_path: Path, evict: bool) -> None:
    """The next one is refused by the server; another's is left alone, unless evicted."""
    async with aimed(tmp_path, "database-exhausted", evict=evict) as fault:
        user = await connect(server_of(fault))
        await fault.inject()
        evidence = await fault.confirm()
        assert f"{12 if evict else 11} of 12 connections taken" in evidence
        assert "too many clients" in evidence
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            await answer(fault)
        if evict:
            with pytest.raises(psycopg.OperationalError):
                await user.execute("SELECT 1")
        else:
            assert await (await user.execute("SELECT 1")).fetchone() == (1,)
        await user.close()
        await fault.heal()
        assert "answers a query again" in await fault.confirm_heal()
        assert await answer(fault) == 7


async def test_whoever_asks_again_at_once_is_evicted_all_the_same(tmp_path: Path) -> None:
    """Clients that reconnect without a pause do not keep a connection."""
    async with aimed(tmp_path, "database-exhausted", evict=True) as fault:
        server, over = server_of(fault), asyncio.Event()

        async def insist() -> None:
            while not over.is_set():
                with contextlib.suppress(psycopg.Error):
                    async with await connect(server) as mine:
                        while not over.is_set():
                            await mine.execute("SELECT 1")

        clients = [asyncio.create_task(insist()) for _ in range(4)]
        try:
            await wait_for(lambda: answer(fault), 5, "the server answers")
            await fault.inject()
            assert "12 of 12 connections taken" in await fault.confirm()
            await fault.heal()
            assert "answers a query again" in await fault.confirm_heal()
        finally:
            over.set()
            await asyncio.gather(*clients)


async def test_a_server_with_room_has_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When not everything was taken, the fault is not confirmed."""
    async with aimed(tmp_path, "database-exhausted") as fault:
        monkeypatch.setattr(type(fault), "_take_all", lambda _: True)
        await fault.inject()
        with pytest.raises(FaultError, match="took another connection"):
            await fault.confirm()
        await fault.heal()


async def test_a_fault_without_a_database_says_so(tmp_path: Path) -> None:
    """Both before the run and when it is to be injected."""
    async with guarded(tmp_path) as (guardian, deployment):
        context = FaultContext(guardian, None, Redis(), guardian.run, RunClock())
        planned = PlannedFault("f0", 0.0, 1.0, spec("database-pause"))
        fault = KINDS["database-pause"](planned, deployment, context)
        assert "database: postgresql" in str(fault.available())
        with pytest.raises(FaultError, match="database: postgresql"):
            await fault.inject()
