"""The documents of a worker without Redis: the same interface, in this process's memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.documents.store import (
    NOT_EMPTY,
    NOT_TRIED,
    NOTHING,
    STORED,
    TOO_LARGE,
    Append,
    Appended,
    Limits,
    Loaded,
    Renewal,
    Replaced,
)


@dataclass
class _Document:
    epoch: int
    base: int = NOTHING
    updates: list[bytes] = field(default_factory=list)
    users: set[str] = field(default_factory=set)
    last: int = 0

    @property
    def size(self) -> int:
        return sum(map(len, self.updates))


class MemoryDocuments:
    """One worker alone. Leases never end: a socket's end is always heard of here."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._documents: dict[str, _Document] = {}
        self._unsaved: dict[str, float] = {}

    def _of_epoch(self, document: str, epoch: int) -> _Document:
        found = self._documents.get(document)
        if found is not None and found.epoch > epoch:
            raise Replaced(document)
        if found is None or found.epoch < epoch:
            found = self._documents[document] = _Document(epoch)
        return found

    async def join(self, document: str, epoch: int, member: str) -> int:
        """Note a member; return the base. Raises Replaced."""
        found = self._of_epoch(document, epoch)
        found.users.add(member)
        return found.base

    async def append(self, document: str, what: Append) -> Appended:
        """Store updates that are not there yet. Raises Replaced."""
        found = self._of_epoch(document, what.epoch)
        answers: list[int] = []
        for number, update in what.updates:
            refused = any(answer != STORED for answer in answers)
            answers.append(self._store(found, what, number, update, refused=refused))
        found.base = max(found.base, what.base)
        return Appended(len(found.updates), answers)

    def _store(
        self, found: _Document, what: Append, number: int, update: bytes, *, refused: bool
    ) -> int:
        if number <= found.last and (number or what.base <= found.base):
            return STORED
        if what.only_if_empty and found.updates:
            return NOT_EMPTY
        if not what.unlimited and found.size + len(update) > self._limits.document_bytes:
            return TOO_LARGE
        if refused:
            return NOT_TRIED
        found.updates.append(update)
        found.last = max(found.last, number)
        return STORED

    async def load(self, document: str) -> Loaded:
        """Return all updates."""
        mark = self._unsaved.get(document)
        text = "" if mark is None else repr(mark)
        found = self._documents.get(document, _Document(NOTHING))
        return Loaded(found.epoch, found.base, list(found.updates), text)

    async def compact(self, document: str, old: Loaded, snapshot: bytes) -> bool:
        """Put one update in the place of the loaded ones; False when they changed meanwhile."""
        found, count = self._documents.get(document), len(old.updates)
        if found is None or found.updates[:count] != old.updates:
            return found is not None and found.updates[:1] == [snapshot]
        found.updates[:count] = [snapshot]
        return True

    async def renew(self, members: dict[str, list[str]]) -> dict[str, Renewal]:
        """Nothing to prolong."""
        return {document: Renewal() for document in members}

    async def bury(self, members: dict[str, list[str]]) -> None:
        """Nobody's lease ends."""

    async def leave(self, members: Sequence[tuple[str, str]]) -> None:
        """Forget members: (document, member)."""
        for document, member in members:
            if found := self._documents.get(document):
                found.users.discard(member)

    async def users(self, document: str) -> list[str]:
        """Return the members."""
        found = self._documents.get(document)
        return sorted(found.users) if found else []

    async def set_base(self, document: str, held: Loaded, base: int) -> bool:
        """Note that the database's version `base` holds nothing that is not in `held`."""
        found = self._documents.get(document)
        if found is None or (found.epoch, found.base) != (held.epoch, held.base):
            return False
        if found.updates[: len(held.updates)] != held.updates:
            return False
        found.base = base
        return True

    async def remove(self, document: str, saved: Loaded) -> bool:
        """Forget a document without users that is as it was loaded."""
        found = self._documents.get(document)
        if found is None or found.users or found.updates != saved.updates:
            return False
        del self._documents[document]
        return True

    async def last_numbers(self, documents: Sequence[str]) -> list[int]:
        """Return the number of the last stored update in each document."""
        return [self._documents.get(d, _Document(NOTHING)).last for d in documents]

    async def mark(self, document: str) -> None:
        """Note that a document has edits that are not in the database."""
        self._unsaved[document] = time.time()

    async def unmark(self, document: str, mark: str) -> None:
        """Take the note back, unless it was made again since."""
        if repr(self._unsaved.get(document)) == mark:
            del self._unsaved[document]

    async def adopt(self, age_s: float, most: int) -> list[str]:
        """Return documents that nobody saved for this long."""
        old = time.time() - age_s
        found = [d for d, at in self._unsaved.items() if at < old][:most]
        self._unsaved.update(dict.fromkeys(found, time.time()))
        return found
