"""Both stores of documents behave the same: memory, and a real Redis with its scripts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bus_servers import Server, serving, topology_of

from runtime.documents.memory import MemoryDocuments
from runtime.documents.store import (
    LEASE_S,
    NOT_EMPTY,
    NOT_TRIED,
    NOTHING,
    STORED,
    TOO_LARGE,
    Append,
    DocumentStore,
    Limits,
    RedisDocuments,
    Replaced,
)
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.settings import load_settings

NOTE = "note:1"
BINARY = bytes(range(256))  # no text in any encoding
LIMITS = Limits(document_bytes=1000)


@dataclass
class Parts:
    """A store, the server under it if any, and what makes stores of other workers."""

    store: DocumentStore
    server: Server | None = None
    client: RedisClient | None = None

    def other(self, origin: str) -> DocumentStore:
        """Return another worker's store on the same data."""
        assert self.client is not None
        return RedisDocuments(self.client, Keys("test"), LIMITS, origin)


@pytest.fixture(params=["memory", "redis"])
async def parts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Parts]:
    """Yield an empty store."""
    if request.param == "memory":
        yield Parts(MemoryDocuments(LIMITS))
        return
    async with serving(tmp_path) as server:
        topology = topology_of(server.url)
        client = RedisClient(topology, load_settings({"REDIS_URL": server.url}))
        found = Parts(MemoryDocuments(LIMITS), server, client)
        found.store = found.other("w0")
        yield found
        await client.close()
        await topology.close()


async def test_updates_are_kept_byte_for_byte_and_once(parts: Parts) -> None:
    """A call that is sent again stores nothing twice; the order is that of arrival."""
    store = parts.store
    first = Append(0, [(1, BINARY), (3, b"\x00"), (5, b"")])
    assert (await store.append(NOTE, first)).answers == [STORED] * 3
    again = await store.append(NOTE, Append(0, [(3, b"\x00"), (5, b""), (8, b"new")]))
    assert (again.length, again.answers) == (4, [STORED] * 3)
    assert (await store.load(NOTE)).updates == [BINARY, b"\x00", b"", b"new"]
    assert await store.last_numbers([NOTE, "note:none"]) == [8, 0]


async def test_limits_and_first_content(parts: Parts) -> None:
    """What is too large is refused; restored updates always find room."""
    store = parts.store
    edits = [(1, b"x" * 900), (2, b"y" * 200), (3, b"z" * 100)]
    done = await store.append(NOTE, Append(0, edits))
    assert done.answers == [STORED, TOO_LARGE, NOT_TRIED]
    assert (await store.append(NOTE, Append(0, [(4, b"z" * 100)]))).answers == [STORED]
    late = await store.append(NOTE, Append(0, [(5, b"first")], only_if_empty=True))
    assert late.answers == [NOT_EMPTY]
    restored = await store.append(NOTE, Append(0, [(6, b"r" * 900)], unlimited=True))
    assert restored.answers == [STORED]
    assert len((await store.load(NOTE)).updates) == 3


async def test_a_call_that_is_sent_again_is_answered_truly(parts: Parts) -> None:
    """Its first answer was lost: what was refused then is not said to be stored now."""
    store = parts.store
    edits = [(1, b"x" * 500), (2, b"y" * 600), (3, b"z" * 100), (4, b"y" * 600), (5, b"w")]
    first = await store.append(NOTE, Append(0, edits))
    again = await store.append(NOTE, Append(0, edits))
    assert first == again
    assert first.answers == [STORED, TOO_LARGE, NOT_TRIED, TOO_LARGE, NOT_TRIED]
    assert (await store.load(NOTE)).updates == [b"x" * 500]


async def test_the_databases_content_is_brought_once(parts: Parts) -> None:
    """By two who open the document, or one whose answer was lost: it would take its room twice."""
    store = parts.store
    for _ in range(2):
        await store.append(NOTE, Append(0, [(0, b"s" * 600)], base=3, unlimited=True))
    assert (await store.load(NOTE)).updates == [b"s" * 600]
    assert (await store.append(NOTE, Append(0, [(1, b"x" * 400)]))).answers == [STORED]
    await store.append(NOTE, Append(0, [(0, b"newer")], base=4, unlimited=True))
    assert (await store.load(NOTE)).updates[2:] == [b"newer"]


async def test_compaction_replaces_exactly_what_was_read(parts: Parts) -> None:
    """What was appended meanwhile stays; a list that changed is left alone."""
    store = parts.store
    await store.append(NOTE, Append(0, [(1, b"a"), (2, b"b")]))
    old = await store.load(NOTE)
    await store.append(NOTE, Append(0, [(3, b"c")]))
    assert await store.compact(NOTE, old, b"ab")
    assert (await store.load(NOTE)).updates == [b"ab", b"c"]
    assert not await store.compact(NOTE, old, b"ba")
    assert await store.compact(NOTE, old, b"ab")  # sent again: its answer was lost
    assert (await store.load(NOTE)).updates == [b"ab", b"c"]
    assert (await store.append(NOTE, Append(0, [(4, b"d" * 998)]))).answers == [TOO_LARGE]
    assert (await store.append(NOTE, Append(0, [(5, b"d" * 997)]))).answers == [STORED]


async def test_compaction_after_a_failover_does_not_hide_other_edits(parts: Parts) -> None:
    """The same number of entries with the same last one, but others among them: refused."""
    if parts.server is None:
        pytest.skip("memory does not fail over")
    store, other = parts.store, parts.other("w1")
    await store.append(NOTE, Append(0, [(1, b"a"), (2, b"b"), (3, b"c")]))
    old = await store.load(NOTE)
    await parts.server.call("FLUSHALL")
    await other.append(NOTE, Append(0, [(1, b"a"), (2, b"X")]))
    await store.append(NOTE, Append(0, [(3, b"c")]))
    assert not await store.compact(NOTE, old, b"abc")
    assert (await store.load(NOTE)).updates == [b"a", b"X", b"c"]


async def test_epochs(parts: Parts) -> None:
    """A later epoch wipes the earlier content; an earlier one is refused, and changes nothing."""
    store = parts.store
    await store.append(NOTE, Append(0, [(1, b"old")], base=4))
    assert await store.join(NOTE, 0, "s|u") == 4
    assert await store.join(NOTE, 1, "s|u") == NOTHING
    with pytest.raises(Replaced):
        await store.append(NOTE, Append(0, [(2, b"late")]))
    with pytest.raises(Replaced):
        await store.join(NOTE, 0, "t|u")
    assert (await store.load(NOTE)).updates == []


async def test_base_grows_only_as_expected(parts: Parts) -> None:
    """A version is noted only over the one that was read, in the same epoch."""
    store = parts.store
    await store.append(NOTE, Append(1, [], base=2))
    held = await store.load(NOTE)
    assert not await store.set_base(NOTE, replace(held, base=1), 3)
    assert not await store.set_base(NOTE, replace(held, epoch=0), 3)
    assert await store.set_base(NOTE, held, 3)
    assert (await store.load(NOTE)).base == 3


async def test_base_is_not_noted_when_a_failover_lost_what_it_holds(parts: Parts) -> None:
    """Whoever opens the document next would not be given what the database alone has."""
    store = parts.store
    await store.append(NOTE, Append(1, [(1, b"a"), (2, b"b")], base=2))
    held = await store.load(NOTE)
    await store.append(NOTE, Append(1, [(3, b"c")]))  # what comes later does no harm
    assert await store.set_base(NOTE, held, 3)
    if parts.server is not None:  # a replica takes over that has not got the last ones
        await parts.server.call("LTRIM", Keys("test").document(NOTE)[0], 0, 0)
        assert not await store.set_base(NOTE, replace(held, base=3), 4)
        assert (await store.load(NOTE)).base == 3


async def test_a_document_is_removed_only_without_users_and_unchanged(parts: Parts) -> None:
    """Who joined, or edited, since it was loaded keeps it."""
    store = parts.store
    await store.join(NOTE, 0, "s|u")
    await store.append(NOTE, Append(0, [(1, b"a")]))
    loaded = await store.load(NOTE)
    assert await store.users(NOTE) == ["s|u"]
    assert not await store.remove(NOTE, loaded)
    await store.leave([(NOTE, "s|u")])
    await store.append(NOTE, Append(0, [(2, b"b")]))
    assert not await store.remove(NOTE, loaded)
    assert await store.remove(NOTE, await store.load(NOTE))
    if parts.server is not None:
        assert await parts.server.call("KEYS", "*") == []


async def test_unsaved_documents_are_handed_out_once(parts: Parts) -> None:
    """A mark that was made again is not taken back; an old one is adopted by one worker."""
    store = parts.store
    await store.mark(NOTE)
    old = (await store.load(NOTE)).mark
    assert await store.adopt(60.0, 10) == []
    assert await store.adopt(0.0, 10) == [NOTE]
    await store.unmark(NOTE, old)
    mark = (await store.load(NOTE)).mark
    assert mark not in ("", old)
    await store.unmark(NOTE, mark)
    assert (await store.load(NOTE)).mark == ""


async def test_what_a_clock_that_was_ahead_dated_ends(parts: Parts) -> None:
    """The server's clock was set back: dead sockets go, and unsaved edits are not left alone."""
    if parts.server is None:
        pytest.skip("memory has no server")
    store, keys, ahead = parts.store, Keys("test"), time.time() + 3600
    await store.join(NOTE, 0, "a|ann")
    await parts.server.call("ZADD", keys.document(NOTE)[2], ahead, "b|bob")
    await parts.server.call("ZADD", keys.documents_unsaved, ahead, NOTE)
    assert await store.adopt(10.0, 10) == [NOTE]
    assert await store.adopt(10.0, 10) == []
    await store.renew({NOTE: ["a|ann"]})
    left = float(await parts.server.call("ZSCORE", keys.document(NOTE)[2], "b|bob")) - time.time()
    assert left < LEASE_S + 1


async def test_a_lease_that_ended_is_reaped_once(parts: Parts) -> None:
    """Until all were told of a dead worker's socket, also when the answer that says so is lost.

    Ours are new when unknown, and when others were told that they are gone.
    """
    if parts.server is None:
        pytest.skip("memory has no leases")
    store, other = parts.store, parts.other("w1")
    await store.join(NOTE, 0, "a|ann")
    await store.join(NOTE, 0, "b|bob")
    users = Keys("test").document(NOTE)[2]
    await parts.server.call("ZADD", users, 1, "b|bob")  # its worker died long ago
    assert await store.users(NOTE) == ["a|ann"]
    for _ in range(2):
        first = (await store.renew({NOTE: ["a|ann"]}))[NOTE]
        assert (first.gone, first.new) == (["b|bob"], [])
    await store.bury({NOTE: ["b|bob", "a|ann", "x|none"]})
    second = (await other.renew({NOTE: ["c|cid"]}))[NOTE]
    assert (second.gone, second.new) == ([], ["c|cid"])
    await parts.server.call("ZADD", users, 1, "c|cid")  # its worker stood still
    assert (await store.renew({NOTE: ["a|ann"]}))[NOTE].gone == ["c|cid"]
    assert (await other.renew({NOTE: ["c|cid"]}))[NOTE].new == ["c|cid"]
    await store.bury({NOTE: ["c|cid"]})  # too late: it is back, and was told so
    assert await store.users(NOTE) == ["a|ann", "c|cid"]
    for key in Keys("test").document(NOTE)[1:]:
        assert await parts.server.call("TTL", key) > 0
