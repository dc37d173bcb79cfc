"""The configuration in a real PostgreSQL, where transactions of several workers overlap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from postgres_server import Databases, postgres

from harness.waiting import wait_for
from runtime.config import rows as rows
from runtime.config.store import ConfigStore
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.storage.database import Database, DatabaseUnavailable
from runtime.supervision import Supervisor

WORKERS = 5


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Databases]:
    """Yield a server."""
    async with postgres(tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def stores(server: Databases) -> AsyncIterator[list[ConfigStore]]:
    """Yield the stores of workers that all started at once on an empty database."""
    url = await server.new()
    databases = [Database(url) for _ in range(WORKERS)]
    try:
        await asyncio.gather(*(database.open() for database in databases))
        found = [
            ConfigStore(database, None, Keys("P"), load_settings({"INSTANCE_ID": f"w{n}"}))
            for n, database in enumerate(databases)
        ]
        await asyncio.gather(*(store.open() for store in found))
        yield found
    finally:
        for database in databases:
            await database.close()


async def test_defaults_are_stored_once_and_changes_pass_one_at_a_time(
    stores: list[ConfigStore],
) -> None:
    """No row is there twice; of overlapping changes one is last, the same for all workers."""
    keys = rows.config.c.key
    count = sa.select(sa.func.count(keys), sa.func.count(sa.distinct(keys)))
    found = await stores[0]._database.read(lambda c: c.execute(count).one())
    assert tuple(found) == (len(stores[0].all()),) * 2
    for store in stores:
        await store.look()
    before = {store.version for store in stores}
    assert len(before) == 1
    changes = (
        store.set({"ui.default_models": f"{n}.{m}", "ui.model_order_list": [f"{n}.{m}"]})
        for m in range(10)
        for n, store in enumerate(stores)
    )
    await asyncio.gather(*changes)
    for store in stores:
        await store.look()
    assert {store.version for store in stores} == {before.pop() + 10 * WORKERS}
    assert len({store["ui.default_models"] for store in stores}) == 1
    assert [[store["ui.default_models"]] == store["ui.model_order_list"] for store in stores] == [
        True
    ] * WORKERS


async def test_passing_values_end_with_the_last_lease(stores: list[ConfigStore]) -> None:
    """Leases are held against the database's own clock."""
    database = stores[0]._database
    for store in stores:
        await store.close()
    off = load_settings({"INSTANCE_ID": "x", "ENABLE_PERSISTENT_CONFIG": "false"})
    first = ConfigStore(database, None, Keys("P"), off)
    await first.open()
    await first.set({"ui.default_models": "m"})
    second = ConfigStore(database, None, Keys("P"), off.model_copy(update={"instance_id": "y"}))
    await second.open()
    assert second["ui.default_models"] == "m"
    aged = rows.workers.update().values(seen_at=rows.workers.c.seen_at - rows.WORKER_LEASE_S - 1)
    await database.write(lambda c: c.execute(aged))
    third = ConfigStore(database, None, Keys("P"), off.model_copy(update={"instance_id": "z"}))
    await third.open()
    assert third["ui.default_models"] is None


async def test_without_the_database_values_stay_and_changes_are_refused(
    stores: list[ConfigStore], server: Databases
) -> None:
    """Reads go on from memory; a change is refused, not lost; afterwards all goes on by itself."""
    one, two = stores[:2]
    supervisor = Supervisor()
    loop = supervisor.run("configuration", two.keep)
    await one.set({"ui.default_models": "before"})
    await wait_for(lambda: two["ui.default_models"] == "before", 20, "known")
    await server.kill()
    with pytest.raises(DatabaseUnavailable):
        await one.set({"ui.default_models": "refused"})
    assert (one["ui.default_models"], two["ui.default_models"]) == ("before", "before")
    await server.start()

    async def changed() -> bool:
        with contextlib.suppress(DatabaseUnavailable):
            await one.set({"ui.default_models": "after"})
        return bool(one["ui.default_models"] == "after")

    await wait_for(changed, 20, "changed")
    await wait_for(lambda: two["ui.default_models"] == "after", 20, "known")
    assert loop.restarts == 0
    await supervisor.stop()
