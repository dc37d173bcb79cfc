"""A private PostgreSQL server for tests, under a guardian of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from harness.deploy.folder import RunFolder
from harness.deploy.lease import Lease
from harness.deploy.model import Database
from harness.deploy.postgres import launch, start_postgres
from harness.deploy.spawner import Guardian

END_S = 20.0


@dataclass
class Databases:
    """One server, with an empty database per test."""

    guardian: Guardian
    server: Database

    async def new(self) -> str:
        """Make a database and return its URL."""
        name = f"t{uuid.uuid4().hex}"
        await asyncio.to_thread(self._create, name)
        return f"{self.server.url.rpartition('/')[0]}/{name}"

    def _create(self, name: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]  # ours

    async def kill(self) -> None:
        """Kill the server, and wait until it is gone."""
        assert self.server.process
        self.server.process.signal(9)
        await self.server.process.wait(END_S)

    async def start(self) -> None:
        """Start it again on its data."""
        await launch(self.guardian, self.server)


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[Databases]:
    """Give a server that answers; it and its files are gone afterwards."""
    lease = Lease.acquire()
    host = f"{lease.subnet}.4"
    guardian = await Guardian.start(RunFolder.create(folder), lease)
    try:
        yield Databases(guardian, await start_postgres(guardian, host))
    finally:
        await guardian.stop(grace=0.5)
