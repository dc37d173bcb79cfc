"""Edits from their acceptance to the database: with memory as the store and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pycrdt import Doc, Text

from runtime.documents import crdt
from runtime.documents.access import DocumentAccess, normal_id
from runtime.documents.journal import Journal
from runtime.documents.memory import MemoryDocuments
from runtime.documents.store import NOT_EMPTY, STORED, TOO_LARGE, Limits, Replaced
from runtime.storage.database import Database
from runtime.storage.documents import DocumentRows

NOTE = "note:1"


class Editor:
    """One Y.js document whose edits are handed out as updates."""

    def __init__(self, state: bytes = crdt.EMPTY) -> None:
        self.doc: Doc = Doc()
        self.doc.apply_update(state)
        self.text = self.doc.get(crdt.TEXT, type=Text)

    def type(self, words: str) -> bytes:
        """Append words; return the update."""
        before = self.doc.get_state()
        self.text += words
        return self.doc.get_update(before)


@pytest_asyncio.fixture
async def rows(tmp_path: Path) -> AsyncIterator[DocumentRows]:
    """Give the table of saved documents in a database of its own."""
    database = Database(f"sqlite:///{tmp_path}/documents.db")
    await database.open()
    yield DocumentRows(database)
    await database.close()


def journal(rows: DocumentRows, store: MemoryDocuments | None = None) -> Journal:
    """Return a worker's journal."""
    return Journal(store or MemoryDocuments(Limits()), rows, compact_after=10)


async def test_edits_are_saved_and_given_to_whoever_comes_later(rows: DocumentRows) -> None:
    """A new worker with an empty store finds what was saved."""
    first, editor = journal(rows), Editor()
    await first.join(NOTE, "a", "ann")
    for word in ("one ", "two "):
        assert await first.append(NOTE, editor.type(word)) == STORED
    await first.save(NOTE)
    state = await journal(rows).join(NOTE, "b", "bob")
    assert crdt.text_of(state.update) == "one two "
    found = await rows.get(NOTE)
    assert found is not None
    assert (found.text, found.version) == ("one two ", 1)


async def test_two_workers_that_save_at_once_keep_both_edits(rows: DocumentRows) -> None:
    """The version check makes the slower one merge; nobody's text is overwritten."""
    workers = [journal(rows), journal(rows)]  # two stores: the worst case, nothing is shared
    for place, worker in enumerate(workers):
        await worker.join(NOTE, str(place), "ann")
        await worker.append(NOTE, Editor().type(f"text {place} "))
    await asyncio.gather(*(worker.save(NOTE) for worker in workers))
    found = await rows.get(NOTE)
    assert found is not None
    assert sorted(found.text.split()) == ["0", "1", "text", "text"]
    assert found.version == 2


async def test_saving_twice_writes_once(rows: DocumentRows) -> None:
    """A save without news leaves the version alone."""
    worker = journal(rows)
    await worker.join(NOTE, "a", "ann")
    await worker.append(NOTE, Editor().type("x"))
    await worker.save(NOTE)
    await worker.save(NOTE)
    found = await rows.get(NOTE)
    assert found is not None
    assert found.version == 1


async def test_an_edit_is_kept_until_it_is_saved(rows: DocumentRows) -> None:
    """What the store lost is appended again, and is not kept once the database has it."""
    store = MemoryDocuments(Limits())
    worker = journal(rows, store)
    await worker.join(NOTE, "a", "ann")
    await worker.append(NOTE, Editor().type("precious"))
    store._documents.clear()  # as a failover to an empty replica does
    assert await worker.restore() == 1
    assert crdt.text_of((await worker.state(NOTE)).update) == "precious"
    await worker.save(NOTE)
    assert not worker.documents[NOTE].kept
    store._documents.clear()
    assert await worker.restore() == 0
    assert crdt.text_of((await worker.state(NOTE)).update) == "precious"


async def test_content_replaced_from_outside_is_not_overwritten(rows: DocumentRows) -> None:
    """Old edits are refused, not saved, and later joiners get the new text alone (W-24)."""
    store = MemoryDocuments(Limits())
    worker, editor = journal(rows, store), Editor()
    await worker.join(NOTE, "a", "ann")
    await worker.append(NOTE, editor.type("old"))
    await rows.replace(NOTE, "new")
    late = await journal(rows, store).join(NOTE, "b", "bob")
    assert (late.text, crdt.text_of(late.update)) == ("new", "")
    with pytest.raises(Replaced):
        await worker.append(NOTE, editor.type("older"))
    await worker.save(NOTE)
    found = await rows.get(NOTE)
    assert found is not None
    assert (found.text, found.state) == ("new", None)
    again = await worker.join(NOTE, "a", "ann")
    assert again.text == "new"
    assert await worker.append(NOTE, Editor().type("newer")) == STORED


async def test_only_the_first_may_initialize(rows: DocumentRows) -> None:
    """Of two first contents one is stored."""
    worker = journal(rows)
    await worker.join(NOTE, "a", "ann")
    answers = await asyncio.gather(
        *(worker.append(NOTE, Editor().type("x"), only_if_empty=True) for _ in range(3))
    )
    assert sorted(answers) == [STORED, NOT_EMPTY, NOT_EMPTY]


async def test_a_document_that_is_full_takes_edits_again_after_compaction(
    rows: DocumentRows,
) -> None:
    """The limit counts bytes as stored; deleted text gives them back."""
    worker = journal(rows, MemoryDocuments(Limits(document_bytes=3000)))
    editor = Editor()
    await worker.join(NOTE, "a", "ann")
    assert await worker.append(NOTE, editor.type("x" * 2000)) == STORED
    before = editor.doc.get_state()
    del editor.text[:]
    assert await worker.append(NOTE, editor.doc.get_update(before)) == STORED
    more = editor.type("y" * 2000)
    assert await worker.append(NOTE, more) == TOO_LARGE
    assert await worker.compact(NOTE)
    assert await worker.append(NOTE, more) == STORED


async def test_small_edits_pass_by_one_that_is_too_large(rows: DocumentRows) -> None:
    """They go to the store in one call, and each gets the answer that it would get alone."""
    worker = journal(rows, MemoryDocuments(Limits(document_bytes=3000)))
    await worker.join(NOTE, "a", "ann")
    sizes = (9, 5000, 8, 7, 6000, 6)
    edits = [Editor().type("x" * size) for size in sizes]
    answers = await asyncio.gather(*(worker.append(NOTE, edit) for edit in edits))
    assert answers == [TOO_LARGE if size > 3000 else STORED for size in sizes]
    assert len(crdt.text_of((await worker.state(NOTE)).update)) == 30
    assert not worker.documents[NOTE].queue


async def test_a_document_that_nobody_uses_is_forgotten_once_saved(rows: DocumentRows) -> None:
    """After the last socket left, only the database has it."""
    store = MemoryDocuments(Limits())
    worker = journal(rows, store)
    await worker.join(NOTE, "a", "ann")
    await worker.append(NOTE, Editor().type("x"))
    await store.leave([(NOTE, "a|ann")])
    assert worker.forget_user(NOTE, "a")
    await worker.save(NOTE)
    assert worker.documents == {}
    assert store._documents == {}
    assert store._unsaved == {}


async def test_a_kind_that_nobody_registered_is_refused() -> None:
    """Every document needs somebody who decides about it (W-29)."""
    access = DocumentAccess()

    async def notes(identifier: str, user: str, role: str) -> str | None:
        return "write" if (identifier, user) == ("1", "ann") else None

    access.register("note", notes)  # type: ignore[arg-type]  # plain texts here
    asked = [("note:1", "ann"), ("note:1", "bob"), ("note:2", "ann"), ("other:1", "ann"), ("", "")]
    found = [await access.permission(document, user, "user") for document, user in asked]
    assert found == ["write", None, None, None, None]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("note:1", "note:1"),
        ("note_1", "note:1"),
        ("plain", ""),
        ("note:{1}", ""),
        ("note:a b", ""),
        (7, ""),
        ("note:" + "x" * 200, ""),
    ],
)
def test_ids_are_normalised_or_refused(given: object, wanted: str) -> None:
    """Braces would move a document's keys to another slot."""
    assert normal_id(given) == wanted
