"""Real workers: the leader is killed, and nothing of it stays."""

from __future__ import annotations

from typing import Any

from app_deployment import Deployment, User, deployment

from harness.waiting import wait_for

SHORT = {"INSTANCE_LEASE": "2", "WEBSOCKET_REDIS_LOCK_TIMEOUT": "2"}


async def leaders_of(parts: Deployment, workers: list[int]) -> list[int]:
    """Return the numbers of the workers that say they lead."""
    found = []
    for worker in workers:
        async with parts.http.get(f"{parts.urls[worker]}/ready") as answer:
            if (await answer.json())["sockets"]["leader"]["leads"]:
                found.append(worker)
    return found


async def ask(user: User, path: str, worker: int) -> dict[str, Any]:
    """Return the answer to a GET."""
    status, body = await user.call("GET", path, worker)
    assert status == 200, body
    return body


async def test_a_killed_leader_leaves_no_ghosts() -> None:
    """Another worker leads, and reaps the sockets, usage and presence of the killed one."""
    async with deployment(workers=3, environ=SHORT) as parts:
        ann, bob = await parts.user(), await parts.user()
        everybody = [0, 1, 2]
        (dead,) = await wait_for(lambda: leaders_of(parts, everybody), 10, "a leader")
        left = [worker for worker in everybody if worker != dead]
        _, chat = await ann.call("POST", "/api/v1/chats/new", left[0], {})
        grant = {"access_grants": [{"principal_id": bob.id, "permission": "read"}]}
        await ann.call("POST", f"/api/v1/chats/{chat['id']}/access/update", left[0], grant)
        join = {"chat_id": chat["id"], "data": {"type": "join"}}
        here, there = await ann.connect(left[0]), await bob.connect(dead)
        assert await there.call("usage", {"model": "llama"}, timeout=3)
        for client in (there, here):
            assert await client.call("events:chat", join, timeout=3)
        together = sorted([ann.id, bob.id])
        await wait_for(lambda: seen(ann) == together, 5, "both in the chat")
        await wait_for(lambda: usage_is(ann, left[1], ["llama"], 2), 5, "usage on all workers")

        await parts.workers[dead].stop(kill=True)

        await wait_for(lambda: leaders_of(parts, left), 10, "another leader")
        await wait_for(lambda: seen(ann) == [ann.id], 20, "bob's ghost gone from the chat")
        assert (await ask(ann, f"/api/v1/users/{bob.id}/active", left[0])) == {"active": False}
        assert (await ask(ann, "/api/usage", left[1]))["user_count"] == 1
        await bob.leave()
        await ann.leave()


def seen(user: User) -> list[str]:
    """Return who is in the chat, as the user was told last."""
    told = [e["data"]["data"]["users"] for e in user.events if e["data"]["type"] == "chat:presence"]
    return sorted(person["id"] for person in told[-1]) if told else []


async def usage_is(user: User, worker: int, models: list[str], users: int) -> bool:
    """Tell whether a worker reports these models and so many users."""
    found = await ask(user, "/api/usage", worker)
    return found == {"model_ids": models, "user_count": users}


async def test_members_are_joined_and_shown_over_http() -> None:
    """A new member's socket on another worker hears the channel; access is checked."""
    async with deployment(workers=2, environ={"WEBSOCKET_HEARTBEAT_INTERVAL": "40"}) as parts:
        await parts.user()  # the first account is an admin
        ann, bob, eve = await parts.user(), await parts.user(), await parts.user()
        features = (await ask(ann, "/api/config", 0))["features"]
        assert features == {"enable_websocket": True, "websocket_heartbeat_interval": 40}
        here, there = await ann.connect(0), await bob.connect(1)
        heard: list[Any] = []
        there.on("events:channel", heard.append)
        body = {"name": "General", "user_ids": []}
        status, channel = await ann.call("POST", "/api/v1/channels/create", 0, body)
        assert status == 200
        path = f"/api/v1/channels/{channel['id']}"
        change = {"user_ids": [bob.id]}
        add, remove = f"{path}/update/members/add", f"{path}/update/members/remove"
        assert (await eve.call("GET", f"{path}/members", 0))[0] == 404
        assert (await bob.call("POST", add, 0, change))[0] == 404
        assert (await ann.call("POST", add, 0, {"user_ids": ["nobody"]}))[0] == 422
        assert (await ann.call("POST", add, 0, change))[0] == 200
        typing = {"channel_id": channel["id"], "data": {"type": "typing", "data": {"typing": True}}}
        await wait_for(lambda: hears(here, typing, heard), 5, "bob hears the channel")
        assert (await bob.call("POST", remove, 1, {"user_ids": [ann.id]}))[0] == 403
        both = {ann.id: True, bob.id: True}
        await wait_for(lambda: online_is(bob, f"{path}/members", both), 5, "both online")
        assert (await ann.call("POST", remove, 0, change))[0] == 200
        assert (await bob.call("GET", f"{path}/members", 1))[0] == 404
        for user in (ann, bob):
            await user.leave()


async def hears(sender: Any, event: dict[str, Any], heard: list[Any]) -> bool:
    """Send, and tell whether anything was heard."""
    assert await sender.call("events:channel", event, timeout=3)
    return bool(heard)


async def online_is(user: User, path: str, expected: dict[str, bool]) -> bool:
    """Tell whether worker 1 shows these members as online or not."""
    people = (await ask(user, path, 1))["users"]
    return {person["id"]: person["is_active"] for person in people} == expected
