"""Documents without Redis, and with a Redis of their own for the sockets."""

from __future__ import annotations

from pathlib import Path

from bus_servers import Server, serving

from harness.waiting import wait_for
from runtime.storage.database import Database
from runtime.storage.memberships import Memberships
from tests.integration.app_deployment import deployment
from tests.integration.documents_editor import Editor, close, open_note


async def test_one_worker_needs_no_redis() -> None:
    """Editors converge, the text is saved, and it survives the worker."""
    async with deployment(with_redis=False, workers=1) as app:
        database = Database(f"sqlite:///{app.folder}/runtime.db")
        editors = await open_note(app, Memberships(database), [0, 0])
        for editor in editors:
            await editor.write(f"by{editor.user.id} ")
        words = [word.strip() for editor in editors for word in editor.acknowledged]
        await wait_for(lambda: all(e.has(words) for e in editors), 5, "both see both")
        assert await app.workers[0].stop() == 0  # at once: the last edit is saved on the way out
        await app.workers[0].start()
        await app.ready()
        late = Editor(editors[0].user, await editors[0].user.connect(0), editors[0].document)
        assert (await late.join())["ok"]
        assert late.has(words)
        await close([*editors, late])
        await database.close()


async def keys(server: Server) -> list[str]:
    """Return the keys of documents on a server."""
    found = await server.call("KEYS", "open-webui:ydoc:*")
    return sorted(found)


async def test_documents_are_in_the_redis_of_the_sockets(tmp_path: Path) -> None:
    """Two servers: edits cross workers, are saved and cleaned up; the general one has no part.

    Nothing is cancelled through the general one, so no save can be missed there (W-26).
    """
    (tmp_path / "general").mkdir()
    (tmp_path / "sockets").mkdir()
    async with serving(tmp_path / "general") as general, serving(tmp_path / "sockets") as sockets:
        env = {"REDIS_URL": general.url, "WEBSOCKET_REDIS_URL": sockets.url}
        async with deployment(with_redis=False, environ=env) as app:
            database = Database(f"sqlite:///{app.folder}/runtime.db")
            editors = await open_note(app, Memberships(database), [0, 1])
            for editor in editors:
                await editor.write(f"by{editor.user.id} ")
            words = [word.strip() for editor in editors for word in editor.acknowledged]
            await wait_for(lambda: all(e.has(words) for e in editors), 5, "both see both")
            assert await keys(sockets) != []
            assert await keys(general) == []
            await close(editors)
            path = f"/api/v1/notes/{editors[0].document.removeprefix('note:')}/content"
            owner = editors[0].user
            await wait_for(lambda: no_keys(sockets), 10, "cleaned up")
            text = (await owner.call("GET", path))[1]["text"]
            assert set(words) <= set(text.split())
            await database.close()


async def no_keys(server: Server) -> bool:
    """Tell whether the server has no document."""
    return await keys(server) == []
