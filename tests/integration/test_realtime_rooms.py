"""Chats, channels, notes and usage over two workers, and over one without Redis."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from bus_servers import Server, serving, until
from socket_workers import Worker, running

from runtime.realtime import identities


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """Give a server."""
    async with serving(tmp_path) as server:
        yield server


@pytest.fixture(params=["two workers", "alone"])
async def pair(
    request: pytest.FixtureRequest, redis: Server, tmp_path: Path
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Give the workers of Ann and Bob: two that share Redis, or one without."""
    alone = request.param == "alone"
    async with running(tmp_path, {} if alone else {"REDIS_URL": redis.url}, 2 - alone) as found:
        yield found[0], found[-1]


async def chat_of(worker: Worker, owner: str, shared_with: str = "", may: Any = "write") -> str:
    """Return a new chat."""
    await worker.database.add_chat(f"chat-of-{owner}", owner, "Title")
    if shared_with:
        await worker.memberships.grant("chat", f"chat-of-{owner}", {shared_with: may})
    return f"chat-of-{owner}"


def chat_event(chat: str, kind: str, data: Any = None) -> dict[str, Any]:
    """Return the payload of events:chat."""
    return {"chat_id": chat, "data": {"type": kind, "data": data}}


def presence(heard: list[Any]) -> list[list[str]]:
    """Return the user ids of each presence that was told, in order."""
    kinds = [event["data"] for event in heard if event["data"]["type"] == "chat:presence"]
    return [[user["id"] for user in data["data"]["users"]] for data in kinds]


async def test_a_chat_knows_who_is_there(pair: tuple[Worker, Worker]) -> None:
    """Joining, leaving and losing the connection are told to all that are in the chat."""
    chat = await chat_of(pair[0], "ann", "bob")
    ann, heard, _ = await pair[0].connect("ann/t1")
    bob, heard_by_bob, _ = await pair[1].connect("bob/t2")
    assert await ann.call("events:chat", chat_event(chat, "join"), timeout=3) is True
    await until(lambda: presence(heard)[-1] == ["ann"])
    assert await bob.call("events:chat", chat_event(chat, "join"), timeout=3) is True
    await until(lambda: presence(heard)[-1] == presence(heard_by_bob)[-1] == ["ann", "bob"])
    assert await bob.call("events:chat", chat_event(chat, "leave"), timeout=3) is True
    await until(lambda: presence(heard)[-1] == ["ann"])
    assert await bob.call("events:chat", chat_event(chat, "leave"), timeout=3) is False
    assert await bob.call("events:chat", chat_event(chat, "join"), timeout=3) is True
    await until(lambda: presence(heard)[-1] == ["ann", "bob"])
    await bob.disconnect()
    await until(lambda: presence(heard)[-1] == ["ann"])


async def test_typing_reaches_the_others_of_the_chat(pair: tuple[Worker, Worker]) -> None:
    """Typing needs the room and write access, and is not told to who types."""
    chat = await chat_of(pair[0], "ann", "bob", "read")
    ann, heard, _ = await pair[0].connect("ann/t1")
    bob, heard_by_bob, _ = await pair[1].connect("bob/t2")
    typing = chat_event(chat, "typing", {"typing": True})
    assert await ann.call("events:chat", typing, timeout=3) is False
    for client in (ann, bob):
        assert await client.call("events:chat", chat_event(chat, "join"), timeout=3) is True
    assert await bob.call("events:chat", typing, timeout=3) is False
    assert await ann.call("events:chat", typing, timeout=3) is True
    expected = {
        "chat_id": chat,
        "user_id": "ann",
        "user": {"id": "ann", "name": "Ann"},
        "shared": True,
        "data": {"type": "typing", "data": {"typing": True}},
    }
    await until(lambda: expected in heard_by_bob)
    assert expected not in heard


async def test_chats_of_others_are_closed(pair: tuple[Worker, Worker]) -> None:
    """Nobody joins a chat without access, nor one that does not exist; odd payloads do no harm."""
    chat = await chat_of(pair[0], "ann")
    bob, _, _ = await pair[1].connect("bob/t2")
    root, _, _ = await pair[1].connect("root/t3")
    odd = [None, 7, "x", {}, {"chat_id": 5}, {"chat_id": "x" * 999, "data": []}]
    for payload in (chat_event(chat, "join"), chat_event("none", "join"), *odd):
        assert await bob.call("events:chat", payload, timeout=3) is False
        for event in ("events:channel", "join-note", "usage"):
            assert await bob.call(event, payload, timeout=3) is False
    assert await root.call("events:chat", chat_event(chat, "join"), timeout=3) is True


async def test_what_was_read_is_told_to_the_users_own_sockets(pair: tuple[Worker, Worker]) -> None:
    """`last_read_at` reaches all sockets of the user."""
    chat = await chat_of(pair[0], "ann")
    here, _, _ = await pair[0].connect("ann/t1")
    _, heard, _ = await pair[1].connect("ann/t2")
    assert await here.call("events:chat", chat_event(chat, "last_read_at"), timeout=3) is True
    await until(lambda: [e["data"]["type"] for e in heard] == ["chat:list"])
    assert heard[0]["data"]["data"]["chat_id"] == chat
    assert heard[0]["data"]["data"]["last_read_at"] > 0


async def test_new_members_hear_a_channel_at_once(pair: tuple[Worker, Worker]) -> None:
    """A member's sockets on any worker join the room without asking, and leave it likewise."""
    channel = await pair[0].memberships.create("channel", "ann", "General")
    ann, _, _ = await pair[0].connect("ann/t1")
    bob, _, _ = await pair[1].connect("bob/t2")
    heard: list[Any] = []
    bob.on("events:channel", heard.append)
    typing = {"channel_id": channel.id, "data": {"type": "typing", "data": {"typing": True}}}
    room = f"channel:{channel.id}"
    await until(lambda: pair[0].sockets.in_room(pair[0].sid("ann"), room))
    assert await bob.call("events:channel", typing, timeout=3) is False
    await pair[0].memberships.grant("channel", channel.id, {"bob": "write"})
    await pair[0].sockets.enter_users(["bob"], room)
    await until(lambda: pair[1].sockets.in_room(pair[1].sid("bob"), room))
    assert await ann.call("events:channel", typing, timeout=3) is True
    await until(lambda: heard)
    assert heard[0] == {
        "channel_id": channel.id,
        "message_id": None,
        "data": {"type": "typing", "data": {"typing": True}},
        "user": {"id": "ann", "name": "Ann"},
    }
    read = {"channel_id": channel.id, "data": {"type": "last_read_at"}}
    assert await bob.call("events:channel", read, timeout=3) is True
    await pair[0].sockets.leave_users(["bob"], room)
    await until(lambda: not pair[1].sockets.in_room(pair[1].sid("bob"), room))


async def test_join_channels_and_notes(pair: tuple[Worker, Worker]) -> None:
    """A socket joins what its user may see now, and nothing else."""
    bob, _, _ = await pair[1].connect("bob/t2")
    channel = await pair[0].memberships.create("channel", "ann", "General")
    note = await pair[0].memberships.create("note", "ann", "Plan")
    sid = pair[1].sid("bob")
    assert await bob.call("join-channels", {}, timeout=3) is True
    assert await bob.call("join-note", {"note_id": note.id}, timeout=3) is False
    assert pair[1].pool.rooms_of(sid) == set()
    for kind, found in (("channel", channel), ("note", note)):
        await pair[0].memberships.grant(kind, found.id, {"bob": "read"})  # type: ignore[arg-type]  # a Literal
    assert await bob.call("join-channels", {}, timeout=3) is True
    assert await bob.call("join-note", {"note_id": note.id}, timeout=3) is True
    assert pair[1].pool.rooms_of(sid) == {f"channel:{channel.id}", f"note:{note.id}"}


async def test_usage_ends_with_its_socket(pair: tuple[Worker, Worker]) -> None:
    """All workers know which models are in use; a socket that goes takes its usage along."""
    bob, _, _ = await pair[1].connect("bob/t2")
    assert await bob.call("usage", {"model": "llama"}, timeout=3) is True

    async def used(expected: list[str]) -> bool:
        return await pair[0].sockets.usage.models() == expected

    await until(lambda: used(["llama"]))
    await bob.disconnect()
    await until(lambda: used([]))


async def test_another_token_does_not_keep_the_rooms_of_the_first(
    pair: tuple[Worker, Worker],
) -> None:
    """A socket that joins as somebody else leaves the rooms of whom it was before."""
    chat = await chat_of(pair[0], "ann")
    client, heard, _ = await pair[0].connect("ann/t1")
    assert await client.call("events:chat", chat_event(chat, "join"), timeout=3) is True
    joined = await client.call("user-join", {"auth": {"token": "bob/t2"}}, timeout=3)
    assert joined == {"id": "bob", "name": "Bob"}
    sid = pair[0].sid("bob")
    rooms = set(pair[0].manager.get_rooms(sid, "/"))
    assert rooms == {sid, "user:bob", "token:t2"}
    await pair[0].sockets.emit_to_user("ann", chat_event(chat, "secret"))
    await pair[0].sockets.emit_to_user("bob", chat_event(chat, "mine"))
    await until(lambda: any(e["data"]["type"] == "mine" for e in heard))
    assert not any(e["data"]["type"] == "secret" for e in heard)


async def test_joins_do_not_wait_for_a_hung_redis(
    redis: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Redis stopped, connecting, joining and every event are answered; presence follows."""
    monkeypatch.setattr(identities, "FRESH_S", 0.0)
    async with running(tmp_path, {"REDIS_URL": redis.url}) as (one, other):
        chat = await chat_of(one, "ann", "bob")
        ann, heard, _ = await one.connect("ann/t1")
        assert await ann.call("events:chat", chat_event(chat, "join"), timeout=2) is True
        await until(lambda: presence(heard)[-1] == ["ann"])
        redis.signal(signal.SIGSTOP)
        try:
            bob, _, joined = await other.connect("bob/t2")
            assert joined == {"id": "bob", "name": "Bob"}
            for event, payload in (
                ("events:chat", chat_event(chat, "join")),
                ("events:chat", chat_event(chat, "typing", {"typing": True})),
                ("usage", {"model": "llama"}),
                ("join-channels", {}),
            ):
                assert await bob.call(event, payload, timeout=2) is True
        finally:
            redis.signal(signal.SIGCONT)
        await until(lambda: presence(heard)[-1] == ["ann", "bob"])
