"""Collaborative documents of two workers on standalone, Sentinel and Cluster."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from bus_servers import Server
from test_tasks_topologies import servers

from harness.waiting import wait_for
from runtime.documents import crdt
from runtime.storage.database import Database
from runtime.storage.documents import DocumentRow, DocumentRows
from runtime.storage.memberships import Memberships
from tests.integration.app_deployment import Deployment, deployment
from tests.integration.documents_editor import Editor, close, open_note

P = "open-webui:ydoc"


@dataclass
class Parts:
    """Two workers, their Redis servers, and their database."""

    app: Deployment
    primaries: list[Server]
    memberships: Memberships
    rows: DocumentRows

    async def saved(self, document: str) -> DocumentRow:
        """Return what the database has."""
        row = await self.rows.get(document)
        assert row is not None
        return row

    async def is_saved(self, document: str, words: list[str]) -> bool:
        """Tell whether the database's text has all words."""
        return set(words) <= set((await self.saved(document)).text.split())

    async def keys(self, document: str) -> list[str]:
        """Return the keys of a document on all primaries."""
        pattern = f"{P}:documents:{{{document}}}:*"
        found = [await server.call("KEYS", pattern) for server in self.primaries]
        return sorted(key for keys in found for key in keys)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["standalone", "sentinel", "cluster"]
)
async def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Parts]:
    """Yield two workers on one topology for all tests."""
    folder = tmp_path_factory.mktemp(request.param)
    limits = {"YDOC_COMPACT_AFTER": "10", "YDOC_MAX_DOCUMENT_BYTES": "20000"}
    async with (
        servers(request.param, folder) as (env, primaries),
        deployment(with_redis=False, environ={**env, **limits}) as app,
    ):
        database = Database(f"sqlite:///{app.folder}/runtime.db")
        yield Parts(app, primaries, Memberships(database), DocumentRows(database))
        await database.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")
# For what waits for a lease to end. Behind Sentinel the same commands go to one primary as on
# standalone; that it is found is what the other tests show.
both_ways = pytest.mark.parametrize("parts", ["standalone", "cluster"], indirect=True)


async def agree(editors: list[Editor], seconds: float = 10) -> None:
    """Wait until all editors show everything that was acknowledged, and the same text."""
    words = [word.strip() for editor in editors for word in editor.acknowledged]
    await wait_for(
        lambda: all(editor.has(words) and str(editor) == str(editors[0]) for editor in editors),
        seconds,
        "all editors agree",
    )


async def test_editors_on_two_workers_converge_through_compactions(parts: Parts) -> None:
    """Everybody types at once; the list of updates is compacted meanwhile; nothing is lost."""
    editors = await open_note(parts.app, parts.memberships, [0, 1, 0, 1])
    async with asyncio.TaskGroup() as group:
        for place, editor in enumerate(editors):
            group.create_task(type_words(editor, f"e{place}", 25))
    await agree(editors)
    late = Editor(editors[0].user, await editors[0].user.connect(1), editors[0].document)
    assert (await late.join())["ok"]
    await agree([*editors, late])
    key = f"{P}:documents:{{{editors[0].document}}}:updates"
    await wait_for(lambda: shorter(parts, key, 25), 10, "compacted")
    words = [word.strip() for editor in editors for word in editor.acknowledged]
    await wait_for(lambda: parts.is_saved(late.document, words), 10, "saved")
    assert len(await parts.keys(late.document)) == 3
    await close([*editors, late])
    await wait_for(lambda: gone(parts, late.document), 20, "keys gone")


async def type_words(editor: Editor, name: str, count: int) -> None:
    """Write words one after the other."""
    for number in range(count):
        await editor.write(f"{name}.{number} ")


async def shorter(parts: Parts, key: str, than: int) -> bool:
    """Tell whether a list is short, on whichever server it is."""
    for server in parts.primaries:
        if key in await server.call("KEYS", key):
            return int(await server.call("LLEN", key)) < than
    return False


async def gone(parts: Parts, document: str) -> bool:
    """Tell whether nothing of a document is left."""
    return await parts.keys(document) == []


async def test_all_data_of_redis_is_lost_and_no_edit_is(parts: Parts) -> None:
    """Saved edits come back from the database, others from the worker that accepted them."""
    editors = await open_note(parts.app, parts.memberships, [0, 1])
    for editor in editors:
        await editor.write(f"before{editor.user.id} ")
    await wait_for(
        lambda: parts.is_saved(editors[0].document, [editors[0].acknowledged[0].strip()]),
        10,
        "saved",
    )
    with nobody_saves(parts):
        for editor in editors:
            await editor.write(f"kept{editor.user.id} ")
        for server in parts.primaries:
            await server.call("FLUSHALL")
        await wait_for(lambda: restored(parts), 10, "edits stored again")
    for editor in editors:
        await editor.write(f"after{editor.user.id} ")
    late = Editor(editors[0].user, await editors[0].user.connect(1), editors[0].document)
    await wait_for(lambda: complete(late, editors), 10, "a later joiner sees every edit")
    await agree([*editors, late])
    await close([*editors, late])


@contextmanager
def nobody_saves(parts: Parts) -> Iterator[None]:
    """Keep the workers from writing to the database."""
    connection = sqlite3.connect(parts.app.folder / "runtime.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def restored(parts: Parts) -> bool:
    """Tell whether both workers stored edits again."""
    counts = []
    for url in parts.app.urls:
        async with parts.app.http.get(f"{url}/ready") as answer:
            counts.append((await answer.json())["documents"]["restored"])
    return all(counts)


async def complete(late: Editor, editors: list[Editor]) -> bool:
    """Join (again); tell whether everything acknowledged is there."""
    await late.join()
    await asyncio.sleep(0)
    return late.has([word.strip() for editor in editors for word in editor.acknowledged])


async def test_what_is_refused_is_told_and_changes_nothing(parts: Parts) -> None:
    """Every refusal is in the acknowledgement (W-36), also for ids of no kind (W-29)."""
    (editor,) = await open_note(parts.app, parts.memberships, [0])
    stranger_user = await parts.app.user(1)
    stranger = Editor(stranger_user, await stranger_user.connect(1), editor.document)
    assert (await stranger.join())["error"] == "forbidden"
    assert (await stranger.send("document:update", update=[0, 0]))["error"] == "not_joined"
    assert (await stranger.send("document:state"))["error"] == "not_joined"
    assert (await stranger.send("awareness:update", update=[1]))["error"] == "not_joined"
    for other in ("whatever", "other:1", "note:no-such", f"{editor.document}x"):
        stranger.document = other
        assert (await stranger.join())["error"] == "forbidden"
    for update in ([300], "text", None, [255, 255, 255]):
        answer = await editor.send("document:update", update=update)
        assert (answer["error"], answer["retry"]) == ("malformed", False)
    big = Editor(editor.user, editor.client, editor.document).edit("x" * 20_001)
    assert (await editor.send("document:update", update=big))["error"] == "update_too_large"
    await editor.write("fine ")
    assert await parts.keys(f"{editor.document}x") == []
    await close([editor, stranger])


async def test_who_may_only_read_cannot_write(parts: Parts) -> None:
    """A reader hears the edits and is refused its own; a withdrawn right ends writing."""
    owner, other = await open_note(parts.app, parts.memberships, [0, 1])
    note = owner.document.removeprefix("note:")
    await other.write("mine ")
    await parts.memberships.grant("note", note, {other.user.id: "read"})
    await wait_for(lambda: refused(other), 10, "the right to write ended")
    await owner.write("theirs ")
    await wait_for(lambda: other.has(["theirs"]), 5, "the reader hears it")
    await close([owner, other])


@both_ways
async def test_who_loses_access_hears_nothing_more(parts: Parts) -> None:
    """Taking a share away takes the sockets out of the document, on every worker."""
    owner, other = await open_note(parts.app, parts.memberships, [0, 1])
    path = f"/api/v1/notes/{owner.document.removeprefix('note:')}/access/update"
    assert (await owner.user.call("POST", path, 0, {"access_grants": []}))[0] == 200
    await wait_for(lambda: out(other), 5, "out of the document")
    await owner.write("secret ")
    assert (await other.join())["error"] == "forbidden"
    assert str(other) == ""
    await wait_for(lambda: alone(owner), 20, "no user of the document any more")
    await close([owner, other])


async def out(editor: Editor) -> bool:
    """Tell whether the socket is not in the document."""
    answer = await editor.send("document:update", update=[0, 0])
    return answer.get("error") == "not_joined"


async def alone(editor: Editor) -> bool:
    """Tell whether the editor is the only one in the document."""
    await editor.sync()
    return len(editor.states[-1]["sessions"]) == 1


async def refused(editor: Editor) -> bool:
    """Tell whether writing is forbidden."""
    answer = await editor.send("document:update", update=[0, 0])
    return answer.get("error") == "forbidden"


async def test_a_full_document_refuses_and_a_socket_has_a_limit(parts: Parts) -> None:
    """The limits are told in words, with their size."""
    (editor,) = await open_note(parts.app, parts.memberships, [0])
    for _ in range(2):
        await editor.write("x" * 9000)
    answer = await editor.send("document:update", update=editor.edit("y" * 9000))
    assert (answer["error"], answer["retry"]) == ("document_too_large", False)
    assert "20000" in answer["message"]
    for _ in range(19):
        note = await parts.memberships.create("note", editor.user.id, "more")
        assert (await editor.send("document:join", document_id=f"note:{note.id}"))["ok"]
    note = await parts.memberships.create("note", editor.user.id, "too many")
    answer = await editor.send("document:join", document_id=f"note:{note.id}")
    assert answer["error"] == "too_many_documents"
    await close([editor])


async def test_awareness_initialize_and_leaving(parts: Parts) -> None:
    """Cursors are relayed, the first content wins, and leaving is told."""
    first, second = await open_note(parts.app, parts.memberships, [0, 1])
    heard: list[dict[str, object]] = []
    second.client.on("ydoc:awareness:update", heard.append)
    assert (await first.send("awareness:update", update=[1, 2]))["ok"]
    await wait_for(lambda: heard, 5, "awareness relayed")
    assert heard[0] == {
        "document_id": first.document,
        "user_id": first.user.id,
        "update": [1, 2],
    }
    mine = first.edit("content ")
    assert await first.send("document:update", update=mine, initialize=True) == mine
    theirs = Editor(second.user, second.client, second.document).edit("other ")
    winner = await second.send("document:update", update=theirs, initialize=True)
    assert crdt.text_of(bytes(winner)) == "content "
    assert (await second.send("document:leave"))["ok"]
    await wait_for(lambda: first.left == [second.user.id], 5, "leaving is told")
    assert (await second.send("document:leave"))["error"] == "not_joined"
    await close([first, second])


@both_ways
async def test_a_killed_workers_users_are_removed_and_its_edits_are_saved(parts: Parts) -> None:
    """SIGKILL: others hear that its users left, and save what it had accepted (W-24)."""
    stays, dies = await open_note(parts.app, parts.memberships, [0, 1])
    alone = (await open_note(parts.app, parts.memberships, [1]))[0]
    await dies.write("last ")
    update = alone.edit("orphan ")
    assert (await alone.send("document:update", update=update))["ok"]
    await parts.app.workers[1].stop(kill=True)
    try:
        await wait_for(lambda: dies.user.id in stays.left, 40, "its user left")
        await wait_for(lambda: parts.is_saved(stays.document, ["last"]), 20, "saved")
        await wait_for(lambda: parts.is_saved(alone.document, ["orphan"]), 40, "adopted")
        await stays.sync()
        await wait_for(lambda: len(stays.states[-1]["sessions"]) == 1, 5, "one user left")
    finally:
        await parts.app.workers[1].start()
        await parts.app.ready()
        await close([stays, dies, alone])


async def test_content_replaced_meanwhile_is_what_later_joiners_get(parts: Parts) -> None:
    """Edits that a crash left in Redis do not hide newer content of the database (W-24)."""
    (editor,) = await open_note(parts.app, parts.memberships, [0])
    await editor.write("stale ")
    path = f"/api/v1/notes/{editor.document.removeprefix('note:')}/content"
    status, replaced = await editor.user.call("POST", path, 1, {"text": "fresh"})
    assert (status, replaced["text"]) == (200, "fresh")
    await wait_for(lambda: editor.resets == ["fresh"], 5, "open copies are void")
    late = Editor(editor.user, await editor.user.connect(1), editor.document)
    assert (await late.join())["ok"]
    assert (late.states[-1]["content"], str(late)) == ("fresh", "")
    answer = await editor.send("document:update", update=editor.edit("staler "))
    assert (answer["error"], answer["retry"]) == ("replaced", False)
    again = Editor(editor.user, await editor.user.connect(0), editor.document)
    assert (await again.join())["ok"]
    await again.write("fresher ")
    await wait_for(lambda: parts.is_saved(editor.document, ["fresher"]), 10, "saved")
    assert (await editor.user.call("GET", path))[1]["text"] == "fresher "
    await close([editor, late, again])
