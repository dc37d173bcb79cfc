"""The configuration of several workers on one database, without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from runtime.config import rows as rows
from runtime.config.schema import ConfigError
from runtime.config.store import ConfigStore
from runtime.redis.keys import Keys
from runtime.settings import load_settings
from runtime.storage.database import Database

Worker = Callable[..., Awaitable[ConfigStore]]


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """Give a function that starts a worker's store on the test's database."""
    databases: list[Database] = []

    async def start(instance: str = "w0", **environ: str) -> ConfigStore:
        database = Database(f"sqlite:///{tmp_path}/runtime.db")
        databases.append(database)
        await database.open()
        settings = load_settings({**environ, "INSTANCE_ID": instance})
        store = ConfigStore(database, None, Keys("P"), settings)
        await store.open()
        return store

    yield start
    for database in databases:
        await database.close()


async def test_a_change_is_known_here_at_once_and_there_after_a_look(worker: Worker) -> None:
    """The other worker learns values, version and which keys changed."""
    one, two = await worker("w0"), await worker("w1")
    await two.look()
    heard: list[frozenset[str]] = []
    two.on_change(heard.append)
    await one.set({"auth.jwt_expiry": "7d", "ui.default_models": "m"})
    assert one["auth.jwt_expiry"] == "7d"
    await two.look()
    assert (two["auth.jwt_expiry"], two["ui.default_models"]) == ("7d", "m")
    assert heard == [{"auth.jwt_expiry", "ui.default_models"}]
    assert two.version == one.version == two.changed_at("auth.jwt_expiry")
    assert two.changed_at("direct.enable") < two.version


async def test_a_refused_change_changes_nothing(worker: Worker) -> None:
    """One wrong value among right ones: none of them is stored."""
    store = await worker()
    before = store.version
    with pytest.raises(ConfigError):
        await store.set({"ui.default_models": "m", "auth.jwt_expiry": "soon"})
    await store.look()
    assert (store["ui.default_models"], store.version) == (None, before)


async def test_stored_values_outlive_the_workers_and_win_over_variables(worker: Worker) -> None:
    """The first start stores the variables; later variables are not looked at."""
    first = await worker(JWT_EXPIRES_IN="2h")
    await first.set({"ui.default_models": "m"})
    await first.close()
    later = await worker(JWT_EXPIRES_IN="3h")
    assert (later["auth.jwt_expiry"], later["ui.default_models"]) == ("2h", "m")


async def test_passing_changes_are_shared_and_end_with_the_last_worker(worker: Worker) -> None:
    """Without persistence: the same on all workers, also later ones; gone after all ended."""
    off = {"ENABLE_PERSISTENT_CONFIG": "false"}
    one, two = await worker("w0", **off), await worker("w1", **off)
    await one.set({"ui.default_models": "m"})
    await two.look()
    assert two["ui.default_models"] == "m"
    await one.close()
    again = await worker("w0", **off, JWT_EXPIRES_IN="3h")
    assert (again["ui.default_models"], again["auth.jwt_expiry"]) == ("m", "3h")
    await again.close()
    await two.close()
    fresh = await worker("w2", **off)
    assert fresh["ui.default_models"] is None


async def test_passing_and_lasting_values_do_not_mix(worker: Worker) -> None:
    """What was changed without persistence is not there with it, and the other way round."""
    lasting = await worker("w0")
    await lasting.set({"ui.default_models": "stays"})
    await lasting.close()
    passing = await worker("w1", ENABLE_PERSISTENT_CONFIG="false")
    assert passing["ui.default_models"] is None
    await passing.set({"ui.default_models": "goes"})
    await passing.close()
    assert (await worker("w2"))["ui.default_models"] == "stays"


async def test_only_the_first_worker_resets(worker: Worker) -> None:
    """A reset at start never takes away what was changed since on another worker."""
    before = await worker("w0")
    await before.set({"ui.default_models": "old"})
    await before.close()
    first = await worker("w0", RESET_CONFIG_ON_START="true")
    assert first["ui.default_models"] is None
    await first.set({"ui.default_models": "new"})
    second = await worker("w1", RESET_CONFIG_ON_START="true")
    assert second["ui.default_models"] == "new"


async def test_workers_that_start_at_once_store_defaults_once(worker: Worker) -> None:
    """Eight workers on an empty database: no collision, one row per key, all agree."""
    stores = await asyncio.gather(*(worker(f"w{n}") for n in range(8)))
    for store in stores:
        await store.look()
    assert len({store.version for store in stores}) == 1
    assert all(store.all() == stores[0].all() for store in stores)
    count = sa.select(sa.func.count(), sa.func.count(sa.distinct(rows.config.c.key)))
    found = await stores[0]._database.read(
        lambda c: c.execute(count.select_from(rows.config)).one()
    )
    assert found[0] == found[1] == len(stores[0].all())


@pytest.mark.parametrize("text", ['"0s"', "12", "no json", '["4w"]'])
async def test_a_bad_stored_value_is_not_used(worker: Worker, text: str) -> None:
    """Whatever stands in the database, the key keeps a value that sign-in can work with."""
    store = await worker(JWT_EXPIRES_IN="2h")
    await store._database.write(lambda c: rows.write(c, rows.LASTING, {"auth.jwt_expiry": text}))
    await store.look()
    assert store["auth.jwt_expiry"] == "2h"
    assert store.status()["invalid"] == ["auth.jwt_expiry"]
    await store.set({"auth.jwt_expiry": "3h"})
    assert (store["auth.jwt_expiry"], store.status()["invalid"]) == ("3h", [])


async def test_a_dead_worker_counts_as_living_for_its_lease(worker: Worker) -> None:
    """A killed worker left its row; once that is old, the next one to start is the first."""
    off = {"ENABLE_PERSISTENT_CONFIG": "false"}
    dead = await worker("w0", **off)
    await dead.set({"ui.default_models": "m"})
    assert (await worker("w1", **off))["ui.default_models"] == "m"
    aged = rows.workers.update().values(seen_at=rows.workers.c.seen_at - rows.WORKER_LEASE_S - 1)
    await dead._database.write(lambda c: c.execute(aged))
    assert (await worker("w2", **off))["ui.default_models"] is None
