"""What the server does with Y.js data, for any edits in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Doc, Text

from runtime.documents import crdt

# who edits, whether it first hears of the others, where, and what is typed (nothing: delete)
EDITS = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 30), st.text("abcé😀", max_size=3)),
    min_size=1,
    max_size=25,
)


def written(edits: list[tuple[int, bool, int, str]]) -> list[bytes]:
    """Return the updates of three editors who hear of each other now and then."""
    docs: list[Doc] = [Doc(client_id=number) for number in (1, 2, 3)]  # the same at every draw
    updates: list[bytes] = []
    keep = [doc.observe(lambda event: updates.append(event.update)) for doc in docs]
    for who, listens, place, typed in edits:
        if listens:
            hear(docs[who], updates)
        edit(docs[who].get(crdt.TEXT, type=Text), place, typed)
    del keep
    return [update for update in dict.fromkeys(updates) if update != crdt.EMPTY]


def hear(doc: Doc, updates: list[bytes]) -> None:
    """Let an editor take everything so far."""
    for update in list(updates):
        doc.apply_update(update)


def edit(text: Text, place: int, typed: str) -> None:
    """Type, or delete a character."""
    length = len(str(text).encode())  # pycrdt counts UTF-8 bytes
    if typed:
        text.insert(0 if not length else boundary(str(text), place), typed)
    elif length:
        begin = boundary(str(text), place)
        rest = str(text).encode()[begin:].decode()
        if rest:
            del text[begin : begin + len(rest[0].encode())]


def boundary(text: str, place: int) -> int:
    """Return the byte at which a character begins."""
    return len(text[: place % (len(text) + 1)].encode())


@given(EDITS, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_one_text(
    edits: list[tuple[int, bool, int, str]], rng: random.Random
) -> None:
    """Shuffled and doubled updates lead to the same content."""
    updates = written(edits)
    wanted = crdt.text_of(crdt.merge(updates))
    doubled = updates + rng.choices(updates, k=5) if updates else []
    rng.shuffle(doubled)
    assert crdt.text_of(crdt.merge(doubled)) == wanted


@given(EDITS, st.randoms(use_true_random=False), st.data())
def test_compaction_at_any_point_loses_nothing(
    edits: list[tuple[int, bool, int, str]], rng: random.Random, data: st.DataObject
) -> None:
    """A prefix in any order, merged once or twice, may stand for its updates."""
    updates = written(edits)
    wanted = crdt.text_of(crdt.merge(updates))
    rng.shuffle(updates)
    first = data.draw(st.integers(0, len(updates)))
    second = data.draw(st.integers(first, len(updates)))
    snapshot = crdt.merge(updates[:first])
    snapshot = crdt.merge([snapshot, *updates[first:second]])
    assert crdt.text_of(crdt.merge([snapshot, *updates[second:]])) == wanted


@given(EDITS, st.data())
def test_a_client_that_sends_its_state_vector_gets_what_it_lacks(
    edits: list[tuple[int, bool, int, str]], data: st.DataObject
) -> None:
    """Whatever part a client has, the difference completes it."""
    updates = written(edits)
    state = crdt.merge(updates)
    has = data.draw(st.lists(st.sampled_from(updates))) if updates else []
    client: Doc = Doc()
    for update in has:
        client.apply_update(update)
    client.apply_update(crdt.missing(state, client.get_state()))
    assert str(client.get(crdt.TEXT, type=Text)) == crdt.text_of(state)


@given(EDITS, st.randoms(use_true_random=False))
def test_equal_states_are_told_from_different_ones(
    edits: list[tuple[int, bool, int, str]], rng: random.Random
) -> None:
    """The same edits in another order are the same; one edit less is not."""
    updates = written(edits)
    state = crdt.merge(updates)
    rng.shuffle(updates)
    assert crdt.same(state, crdt.merge([crdt.merge(updates[:3]), *updates[3:]]))
    more: Doc = Doc()
    more.apply_update(state)
    edit(more.get(crdt.TEXT, type=Text), 0, "z")
    assert not crdt.same(state, more.get_update())
    edit(more.get(crdt.TEXT, type=Text), 0, "")
    assert not crdt.same(state, more.get_update())


def test_an_update_before_its_predecessor_waits_in_the_snapshot() -> None:
    """A snapshot keeps an edit, or a deletion, that cannot be applied yet."""
    updates = written([(0, False, 0, "abc"), (0, False, 3, "d"), (0, False, 0, "")])
    for late in range(3):
        early = [update for place, update in enumerate(updates) if place != late]
        snapshot = crdt.merge([crdt.merge(early[:1]), *early[1:]])
        assert crdt.text_of(crdt.merge([snapshot, updates[late]])) == "bcd"


def test_deleted_text_takes_no_room() -> None:
    """The merged form of a text that was typed and deleted is small."""
    doc: Doc = Doc()
    text = doc.get(crdt.TEXT, type=Text)
    text += "x" * 100_000
    before = doc.get_update()
    del text[:]
    assert len(crdt.merge([before, doc.get_update()])) < 100


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(junk: bytes) -> None:
    """Junk raises MalformedUpdate; what passes the check can be merged."""
    try:
        crdt.check(junk)
    except crdt.MalformedUpdate:
        return
    crdt.merge([junk, junk])


@pytest.mark.parametrize("vector", [b"", b"\xff\xff", b"\x05\x01"])
def test_a_broken_state_vector_is_refused(vector: bytes) -> None:
    """It is a client's mistake, told as such."""
    with pytest.raises(crdt.MalformedUpdate):
        crdt.missing(crdt.EMPTY, vector)
