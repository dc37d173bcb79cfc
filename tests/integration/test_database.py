"""The runtime's database on SQLite and on PostgreSQL: the same promises on both."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from postgres_server import Databases, postgres

from harness.waiting import wait_for
from runtime.storage.database import Database, DatabaseUnavailable, EmailTaken, User
from runtime.tasks.store import MessageTaken, Partial, TaskRow, TaskStore
from tests.integration.app_deployment import Deployment, deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORKERS = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Databases]:
    """Give a PostgreSQL server for all tests."""
    async with postgres(tmp_path_factory.mktemp("postgres")) as databases:
        yield databases


@pytest_asyncio.fixture(loop_scope="module", params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, server: Databases) -> str:
    """Give the URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runtime.db"
    return await server.new()


@pytest_asyncio.fixture(loop_scope="module")
async def database(url: str) -> AsyncIterator[Database]:
    """Give an open database."""
    database = Database(url)
    await database.open()
    yield database
    await database.close()


def account(email: str = "a@app.example") -> User:
    """Return an account that is not stored yet."""
    return User(str(uuid.uuid4()), email, "A", "user", "hash")


async def test_accounts(database: Database) -> None:
    """The first becomes admin; an address is taken once."""
    first = await database.add_user(account(), first_is_admin=True)
    second = await database.add_user(account("b@app.example"), first_is_admin=True)
    assert (first.role, second.role) == ("admin", "user")
    with pytest.raises(EmailTaken):
        await database.add_user(account())
    found = await database.user_by_email("b@app.example")
    assert found is not None
    assert found.id == second.id


async def test_revocations(database: Database) -> None:
    """A revoked token is refused, its expired record forgotten; repeating changes nothing.

    It is forgotten a day late: a clock that was set back honours the token until then.
    """
    user = await database.add_user(account())
    assert await database.user_if_not_revoked(user.id, "live")
    now = int(time.time())
    ends = {"late": now - 3600, "old": now - 25 * 3600}
    for jti, expires in (("one", None), ("one", None), *ends.items()):
        await database.revoke(jti, user.id, expires)
    assert await database.user_if_not_revoked(user.id, "one") is None
    await database.forget_expired_revocations()
    assert await database.user_if_not_revoked(user.id, "one") is None
    assert await database.user_if_not_revoked(user.id, "late") is None
    assert await database.user_if_not_revoked(user.id, "old")


async def test_chats_and_tasks(database: Database) -> None:
    """A message has one running task; its text, state and owner are kept."""
    user = await database.add_user(account())
    store = TaskStore(database, "w0")
    row = TaskRow(str(uuid.uuid4()), "chat", user.id, "running")
    await store.begin(row, "message", new_chat="title")
    assert await database.chat_owner("chat") == user.id
    again = TaskRow(str(uuid.uuid4()), "chat", user.id, "running")
    with pytest.raises(MessageTaken):
        await store.begin(again, "message", new_chat=None)
    text = "naïve 数据 🙂"
    await store.save([Partial(row.task_id, text, 2)])
    done = TaskRow(row.task_id, "chat", user.id, "done")
    assert await store.end(done, Partial(row.task_id, text, 3))
    assert await store.task(row.task_id) == done


async def test_workers_open_and_sign_up_at_once(url: str) -> None:
    """Several workers open an empty database at once; exactly one account becomes admin."""
    workers = [Database(url) for _ in range(WORKERS)]
    await asyncio.gather(*(worker.open() for worker in workers))
    added = await asyncio.gather(
        *(
            worker.add_user(account(f"{n}@app.example"), first_is_admin=True)
            for n, worker in enumerate(workers * 3)
        )
    )
    assert sorted(user.role for user in added).count("admin") == 1
    await asyncio.gather(*(worker.close() for worker in workers))


async def test_concurrent_sign_outs(url: str) -> None:
    """Workers that revoke the same tokens at once disturb nobody."""
    workers = [Database(url) for _ in range(WORKERS)]
    for worker in workers:
        await worker.open()
    user = await workers[0].add_user(account())
    tokens = [f"jti-{n}" for n in range(20)]
    await asyncio.gather(*(w.revoke(t, user.id, None) for w in workers for t in tokens))
    for token in tokens:
        assert await workers[1].user_if_not_revoked(user.id, token) is None
    await asyncio.gather(*(worker.close() for worker in workers))


async def test_a_restart_is_an_outage_that_ends(server: Databases) -> None:
    """Killed under use: DatabaseUnavailable, nothing else; then it works on, nothing lost."""
    database = Database(await server.new())
    await database.open()
    user = await database.add_user(account())
    await server.kill()
    with pytest.raises(DatabaseUnavailable):
        await database.revoke("jti", user.id, None)
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await server.start()
    assert await database.user_by_email(user.email) == user
    await database.revoke("jti", user.id, None)
    assert await database.user_if_not_revoked(user.id, "jti") is None
    await database.close()


async def test_a_statement_without_end_is_given_up(server: Databases) -> None:
    """A query that hangs is ended by the server, and its connection serves again."""
    database = Database(await server.new())
    with pytest.raises(DatabaseUnavailable, match="timeout"):
        await database.read(lambda c: c.execute(sa.text("SELECT pg_sleep(60)")).first())
    await database.ping()
    await database.close()


async def test_the_application_on_postgresql(server: Databases) -> None:
    """Two workers: accounts, a stream stopped by the other, sign-out; and a restart under them."""
    environ = {"DATABASE_URL": await server.new()}
    async with deployment(environ=environ) as app:
        user = await app.user(0)
        _, task = await user.chat("stream", 0)
        status, answer = await user.call("POST", f"/api/tasks/stop/{task}", 1)
        assert status == 200, answer
        await wait_for(lambda: "stream" in app.provider.closed, 8, "the stream is closed")
        await server.kill()
        await wait_for(lambda: status_of(app, 503), 10, "a worker says that it is not ready")
        await server.start()
        await app.ready()
        other = await app.user(1)
        assert (await other.call("POST", "/api/v1/auths/signout", 0))[0] == 200
        assert (await other.call("GET", "/api/v1/auths/", 1))[0] == 401


async def status_of(app: Deployment, wanted: int) -> bool:
    """Return whether worker 0's /ready answers so."""
    async with app.http.get(f"{app.urls[0]}/ready") as answer:
        return answer.status == wanted
