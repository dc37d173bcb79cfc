"""Two deployments on one Redis: each sees only what is under its own prefix."""

from __future__ import annotations

import uuid
from pathlib import Path

from bus_servers import Server, serving

from harness.waiting import wait_for
from tests.integration.app_deployment import User, deployment


async def test_two_deployments_share_one_redis(tmp_path: Path) -> None:
    """Events, sessions and tasks stay apart, although accounts and secrets are the same.

    Both workers use one database, so a user has a socket on each; only the prefix parts them.
    """
    async with (
        serving(tmp_path) as server,
        deployment(
            with_redis=False,
            environ={"REDIS_URL": server.url},
            environs=[{"REDIS_KEY_PREFIX": "one"}, {"REDIS_KEY_PREFIX": "two"}],
        ) as app,
    ):
        user = await app.user(0)
        await user.connect(1)  # the other deployment
        stream = uuid.uuid4().hex[:8]
        chat, task = await user.chat(stream, 0)
        await user.connect(0)
        await wait_for(lambda: "t8 " in user.text(), 8, "tokens of its own deployment")
        assert user.text().count("t8 ") == 1, "the other deployment's socket hears nothing"
        assert (await user.call("GET", "/api/tasks", 0))[1]["tasks"] == [task]
        assert (await user.call("GET", "/api/tasks", 1))[1]["tasks"] == []
        assert (await user.call("GET", f"/api/tasks/chat/{chat}", 1))[1]["task_ids"] == []
        await session_data_stays_apart(user)
        await names_have_a_prefix(server)
        await user.call("POST", f"/api/tasks/stop/{task}", 0)
        await user.leave()


async def session_data_stays_apart(user: User) -> None:
    """Assert that session data of one deployment is not in the other."""
    path = "/api/v1/session/data"
    status, answer = await user.call("POST", path, 0, {"theme": "dark"})
    assert status == 200, answer
    assert (await user.call("GET", path, 0))[1]["data"].get("theme") == "dark"
    assert (await user.call("GET", path, 1))[1].get("data", {}).get("theme") is None


async def names_have_a_prefix(server: Server) -> None:
    """Assert that every key and channel belongs to one of the two."""
    prefixes = ("one:", "two:", "{one:", "{two:")
    names = [*await server.call("KEYS", "*"), *await server.call("PUBSUB", "CHANNELS")]
    assert [name for name in names if not str(name).startswith(prefixes)] == []
    assert {str(name).lstrip("{")[:3] for name in names} == {"one", "two"}
