"""What the server does with Y.js data: check, merge, compare. Bytes in, bytes out.

Updates commute and may be repeated, so their order never matters. pycrdt holds the interpreter's
lock while it works: 2 MiB of ordinary text take milliseconds, badly fragmented text up to 0.1 s.
Call what handles whole documents in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycrdt import Decoder, Doc, Text, XmlFragment, get_update, merge_updates
from pycrdt import get_state as state_of

EMPTY = b"\x00\x00"  # an update that changes nothing
FRAGMENT, TEXT = "prosemirror", "text"  # roots that editors use: rich text, plain text


class MalformedUpdate(ValueError):
    """The bytes are no Y.js update (version 1)."""


def check(update: bytes) -> None:
    """Raise MalformedUpdate unless a document can take the update."""
    try:
        Doc().apply_update(update)
        merge_updates(update, EMPTY)
    except Exception as error:  # the Rust side raises several types
        raise MalformedUpdate(str(error) or type(error).__name__) from None


def merge(updates: Sequence[bytes]) -> bytes:
    """Return one update that says all that the given ones say, without deleted content.

    An update whose predecessors are missing changes no document yet, and a document forgets it
    when it is written out. Such updates are kept beside the document's own state.
    """
    if not updates:
        return EMPTY
    doc = _document(updates)
    whole, vector = doc.get_update(), doc.get_state()
    known = _clocks(vector)
    waiting = [update for update in updates if not _contained(update, vector, known)]
    return merge_updates(whole, *waiting) if waiting else whole


def missing(update: bytes, vector: bytes) -> bytes:
    """Return what of `update` a client with this state vector lacks; raise MalformedUpdate."""
    try:
        return get_update(update, vector)
    except Exception as error:  # the Rust side raises several types
        raise MalformedUpdate(f"state vector: {error}") from None


def vector_of(update: bytes) -> bytes:
    """Return the state vector of a document that has taken the update."""
    return state_of(update)


def same(one: bytes, other: bytes) -> bool:
    """Return whether two merged updates say the same, however they are cut into pieces.

    False also where either holds edits whose predecessors are missing.
    """
    vectors = state_of(one), state_of(other)
    if _clocks(vectors[0]) != _clocks(vectors[1]):
        return False
    deleted = _deletions(one, vectors[0])
    return deleted is not None and deleted == _deletions(other, vectors[1])


def text_of(update: bytes) -> str:
    """Return the text to search and show: the rich text's markup, else the plain text."""
    doc = _document([update])
    text = str(doc.get(FRAGMENT, type=XmlFragment)) or str(doc.get(TEXT, type=Text))
    return text.replace("\x00", "")  # PostgreSQL stores none


def _document(updates: Sequence[bytes]) -> Doc[Any]:
    doc: Doc[Any] = Doc()
    for update in updates:
        doc.apply_update(update)
    return doc


def _contained(update: bytes, vector: bytes, known: dict[int, int]) -> bool:
    """Return whether a document with this state vector holds all insertions and deletions."""
    deleted = _deletions(update, vector)
    return deleted is not None and all(end <= known.get(c, 0) for c, _, end in deleted)


def _deletions(update: bytes, vector: bytes) -> list[tuple[int, int, int]] | None:
    """Return (client, first, end) of what is deleted, None when there are also insertions.

    Insertions that the state vector knows do not count.
    """
    rest = Decoder(get_update(update, vector))
    if rest.read_var_uint():  # how many clients have insertions
        return None
    ranges = []
    for _ in range(rest.read_var_uint()):
        client = rest.read_var_uint()
        for _ in range(rest.read_var_uint()):
            first, length = rest.read_var_uint(), rest.read_var_uint()
            ranges.append((client, first, first + length))
    return _joined(sorted(ranges))


def _joined(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join ranges that touch."""
    joined: list[tuple[int, int, int]] = []
    for client, first, end in ranges:
        if joined and joined[-1][0] == client and first <= joined[-1][2]:
            joined[-1] = (client, joined[-1][1], max(end, joined[-1][2]))
        else:
            joined.append((client, first, end))
    return joined


def _clocks(vector: bytes) -> dict[int, int]:
    """Return client → number of its known operations."""
    rest = Decoder(vector)
    return {rest.read_var_uint(): rest.read_var_uint() for _ in range(rest.read_var_uint())}
