"""A Sentinel primary dies while documents are edited; its replica misses the last edits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bus_servers import SentinelSet
from test_tasks_topologies import environment

from harness.waiting import wait_for
from runtime.storage.database import Database
from runtime.storage.documents import DocumentRows
from runtime.storage.memberships import Memberships
from tests.integration.app_deployment import Deployment, deployment
from tests.integration.documents_editor import Editor, close, open_note

pytestmark = pytest.mark.slow
UNSEEN = 5  # edits that are acknowledged and never reach the replica


@dataclass
class Parts:
    """Two workers on a Sentinel set, and their database."""

    redis: SentinelSet
    app: Deployment
    memberships: Memberships
    rows: DocumentRows


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """Yield a deployment of its own for each test: its primary dies."""
    redis = SentinelSet(tmp_path)
    try:
        await redis.start()
        env = environment(redis.settings())
        async with deployment(with_redis=False, environ=env) as app:
            database = Database(f"sqlite:///{app.folder}/runtime.db")
            yield Parts(redis, app, Memberships(database), DocumentRows(database))
            await database.close()
    finally:
        redis.kill()


@pytest.mark.parametrize("lagging", [False, True], ids=["in-step", "lagging"])
async def test_a_failover_while_editing_loses_no_acknowledged_edit(
    parts: Parts, lagging: bool
) -> None:
    """All editors, a later joiner and the database end with every acknowledged word."""
    editors = await open_note(parts.app, parts.memberships, [0, 1, 0, 1])
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for place, editor in enumerate(editors):
            group.create_task(keep_writing(editor, f"e{place}", stop))
        await wait_for(lambda: all(len(e.acknowledged) > 10 for e in editors), 20, "edited")
        await fail_over(parts, editors, lagging)
        await wait_for_more(editors)
        stop.set()
    words = [word.strip() for editor in editors for word in editor.acknowledged]
    late = Editor(editors[0].user, await editors[0].user.connect(1), editors[0].document)
    assert (await late.join())["ok"]
    await wait_for(
        lambda: all(e.has(words) and str(e) == str(late) for e in editors), 20, "all agree"
    )
    await wait_for(lambda: saved(parts, late, words), 20, "saved")
    await close([*editors, late])


async def keep_writing(editor: Editor, name: str, stop: asyncio.Event) -> None:
    """Write word after word; each is sent again until it is acknowledged."""
    number = 0
    while not stop.is_set():
        await editor.write(f"{name}.{number} ")
        number += 1


async def fail_over(parts: Parts, editors: list[Editor], lagging: bool) -> None:
    """Kill the primary; a lagging replica was paused while edits were acknowledged."""
    old, replica = await parts.redis.primary(), parts.redis.nodes[1]
    if lagging:
        replica.signal(signal.SIGSTOP)
        counts = [len(editor.acknowledged) + UNSEEN for editor in editors]
        await wait_for(
            lambda: all(len(e.acknowledged) >= n for e, n in zip(editors, counts, strict=True)),
            10,
            "edits that the replica did not see",
        )
    parts.redis.nodes[0].kill()
    if lagging:
        replica.signal(signal.SIGCONT)
    await wait_for(lambda: moved(parts, old), 20, "another primary")


async def moved(parts: Parts, old: int) -> bool:
    """Tell whether Sentinel names another primary."""
    return await parts.redis.primary() != old


async def wait_for_more(editors: list[Editor]) -> None:
    """Wait until every editor was acknowledged again."""
    counts = [len(editor.acknowledged) + UNSEEN for editor in editors]
    await wait_for(
        lambda: all(len(e.acknowledged) >= n for e, n in zip(editors, counts, strict=True)),
        30,
        "edits after the failover",
    )


async def saved(parts: Parts, editor: Editor, words: list[str]) -> bool:
    """Tell whether the database has all words."""
    row = await parts.rows.get(editor.document)
    return row is not None and set(words) <= set(row.text.split())
