"""One worker's edits, from their acceptance until nothing can lose them any more.

An edit is accepted once the store has it. This worker then keeps it until the database has it too,
and appends it again when a failover turns out to have lost it. Saving merges: the database's state,
the store's updates and what is kept here, written only if the version is still the one that was
read. So any number of workers may save one document, in any order, and none takes anything back.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.documents import crdt
from runtime.documents.store import (
    NOT_TRIED,
    NOTHING,
    STORED,
    Append,
    DocumentStore,
    Loaded,
    Replaced,
)
from runtime.redis.errors import RedisUnavailable
from runtime.storage.documents import DocumentRow, DocumentRows

log = logging.getLogger(__name__)

TRIES = 5
BATCH = 64
LONGEST_QUEUE = 1000
UNSAVED_BYTES = 4 * 1024 * 1024  # of one document; more is refused until the database is back


class Busy(Exception):
    """Too many edits of this document wait here: for Redis, or for the database."""


@dataclass(eq=False)
class _Waiting:
    update: bytes
    only_if_empty: bool
    answer: asyncio.Future[int | Exception]


@dataclass
class OpenDocument:
    """A document that sockets of this worker have open, or whose edits are not all saved."""

    id: str
    epoch: int
    users: dict[str, str] = field(default_factory=dict)  # socket id → user id
    kept: dict[int, bytes] = field(default_factory=dict)  # accepted, not in the database
    accepted: int = 0  # number of the last one
    first_edit: float = 0.0  # time.monotonic(), 0 when all is saved
    last_edit: float = 0.0
    abandoned: bool = False  # its last socket here has left
    compacting: bool = False
    queue: deque[_Waiting] = field(default_factory=deque)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self, number: int, update: bytes) -> None:
        """Note an accepted edit."""
        self.kept[number] = update
        self.accepted = number
        self.last_edit = time.monotonic()
        self.first_edit = self.first_edit or self.last_edit

    def saved(self, upto: int) -> None:
        """Note that the database has everything up to a number."""
        self.kept = {n: update for n, update in self.kept.items() if n > upto}
        self.first_edit = self.last_edit if self.kept else 0.0

    @property
    def unused(self) -> bool:
        """Whether nothing here needs it any more."""
        return not (self.users or self.kept or self.queue or self.abandoned)


@dataclass(frozen=True)
class State:
    """What a socket that opens a document gets: its edits, else the text it begins with."""

    update: bytes
    text: str


@dataclass(frozen=True)
class _Saved:
    version: int
    state: bytes


class Journal:
    """The open documents of this worker. Methods raise RedisUnavailable, DatabaseUnavailable."""

    def __init__(self, store: DocumentStore, rows: DocumentRows, compact_after: int) -> None:
        self.store = store
        self.rows = rows
        self.documents: dict[str, OpenDocument] = {}
        self.edited = asyncio.Event()
        self._compact_after = compact_after
        # one series for all documents: a document that is opened anew must not number anew
        self._numbers = itertools.count(1)

    # --- opening ---------------------------------------------------------------------------

    async def join(self, document: str, sid: str, user: str) -> State:
        """Add a socket to a document and return its state. Raises Replaced."""
        row = await self.rows.open(document)
        base = await self.store.join(document, row.epoch, member(sid, user))
        entry = self._entry(document, row.epoch)
        entry.users[sid] = user
        entry.abandoned = False
        await self._bring(row, base)
        return await self._state(row)

    async def state(self, document: str) -> State:
        """Return a document's state, with all that the database has."""
        row = await self.rows.open(document)
        loaded = await self.store.load(document)
        await self._bring(row, loaded.base if loaded.epoch == row.epoch else NOTHING)
        return await self._state(row)

    async def _bring(self, row: DocumentRow, base: int) -> None:
        """Put the database's state into the store unless it is in there. Raises Replaced."""
        if base < row.version:
            updates = [(0, row.state)] if row.state else []
            what = Append(row.epoch, updates, base=row.version, unlimited=True)
            await self.store.append(row.id, what)

    async def _state(self, row: DocumentRow) -> State:
        loaded = await self.store.load(row.id)
        update = await asyncio.to_thread(crdt.merge, loaded.updates)
        return State(update, row.text)

    def _entry(self, document: str, epoch: int) -> OpenDocument:
        """Return the open document; one of an earlier epoch is over, with its edits."""
        entry = self.documents.get(document)
        if entry is None or entry.epoch < epoch:
            fresh = self.documents[document] = OpenDocument(document, epoch)
            if entry is not None:
                fresh.users = entry.users
            return fresh
        return entry

    def forget_user(self, document: str, sid: str) -> bool:
        """Take a socket out; False when it was not in."""
        entry = self.documents.get(document)
        if entry is None or entry.users.pop(sid, None) is None:
            return False
        entry.abandoned = not entry.users
        self.edited.set()
        return True

    # --- editing ---------------------------------------------------------------------------

    async def append(self, document: str, update: bytes, *, only_if_empty: bool = False) -> int:
        """Store an edit and return the store's answer. Raises Replaced, Busy, RedisUnavailable.

        Edits that come while others are on their way go together with the next call.
        """
        entry = self.documents.get(document)
        if entry is None:
            raise Replaced(document)
        unsaved = sum(map(len, entry.kept.values()))
        if len(entry.queue) >= LONGEST_QUEUE or unsaved > UNSAVED_BYTES:
            raise Busy(document)
        answer: asyncio.Future[int | Exception] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(update, only_if_empty, answer)
        entry.queue.append(waiting)
        try:
            while not answer.done():
                async with entry.turn:
                    if not answer.done():
                        await self._flush(entry)
        finally:
            answer.cancel()  # unless there is one: nobody waits for it any more
            if waiting in entry.queue:
                entry.queue.remove(waiting)
        result = answer.result()
        if isinstance(result, Exception):
            raise result
        return result

    async def _flush(self, entry: OpenDocument) -> None:
        """Store the next edits in one call and answer each."""
        batch = _next_batch(entry.queue)
        numbered = [(next(self._numbers), waiting.update) for waiting in batch]
        answers: Sequence[int | Exception]
        try:
            answers = await self._store(
                entry, Append(entry.epoch, numbered, batch[0].only_if_empty)
            )
        except (RedisUnavailable, Replaced) as error:
            answers = [error] * len(batch)
        except BaseException:  # cancelled: nobody knows
            for waiting in batch:
                _answer(waiting, RedisUnavailable("the edit's storing was interrupted"))
            raise
        again = []
        for waiting, (number, update), answer in zip(batch, numbered, answers, strict=True):
            if answer == STORED:
                entry.keep(number, update)
            if answer != NOT_TRIED:
                _answer(waiting, answer)
            elif not waiting.answer.done():
                again.append(waiting)
        entry.queue.extendleft(reversed(again))
        self.edited.set()

    async def _store(self, entry: OpenDocument, what: Append) -> list[int]:
        done = await self.store.append(entry.id, what)
        if STORED in done.answers:  # noted before it is accepted: else a crash could orphan it
            await self.store.mark(entry.id)
        if done.length > self._compact_after and not entry.compacting:
            entry.compacting = True
            self.edited.set()
        return done.answers

    async def compact(self, document: str) -> bool:
        """Put one update in the place of many; False when there was nothing to win."""
        loaded = await self.store.load(document)
        if len(loaded.updates) < 2:
            return False
        snapshot = await asyncio.to_thread(crdt.merge, loaded.updates)
        return await self.store.compact(document, loaded, snapshot)

    async def restore(self) -> int:
        """Append again what a failover lost of our edits; return how many documents had lost."""
        entries = [entry for entry in self.documents.values() if entry.kept]
        if not entries:
            return 0
        numbers = await self.store.last_numbers([entry.id for entry in entries])
        lost = [e for e, number in zip(entries, numbers, strict=True) if number < e.accepted]
        for entry in lost:
            await self._restore(entry)
        return len(lost)

    async def _restore(self, entry: OpenDocument) -> None:
        async with entry.turn:  # in order: a later number would hide that an earlier one is missing
            updates = sorted(entry.kept.items())
            try:
                await self._store(entry, Append(entry.epoch, updates, unlimited=True))
                log.info("document %s: %d edits stored again", entry.id, len(updates))
            except Replaced:
                entry.saved(entry.accepted)

    # --- saving ----------------------------------------------------------------------------

    async def save(self, document: str) -> None:
        """Write everything known of a document to the database; forget it when nobody uses it."""
        entry = self.documents.get(document)
        upto, mine = (entry.accepted, list(entry.kept.values())) if entry else (0, [])
        try:
            loaded: Loaded | None = await self.store.load(document)
        except RedisUnavailable:
            loaded = None
        epoch = entry.epoch if entry else loaded.epoch if loaded else NOTHING
        theirs = loaded.updates if loaded and loaded.epoch == epoch else []
        saved = await self._write(document, epoch, [*theirs, *mine])
        if entry:
            entry.saved(upto)
        if loaded:
            await self._tell_store(document, epoch, loaded, saved)
        if entry and entry.unused and self.documents.get(document) is entry:
            del self.documents[document]

    async def _write(self, document: str, epoch: int, updates: list[bytes]) -> _Saved | None:
        """Merge into the database's state; None when the content was replaced from outside."""
        for _ in range(TRIES):
            row = await self.rows.get(document)
            if row is None or row.epoch != epoch:
                return None
            known = [row.state] if row.state else []
            state = await asyncio.to_thread(crdt.merge, [*known, *updates])
            if await asyncio.to_thread(crdt.same, state, row.state or crdt.EMPTY):
                return _Saved(row.version, state)
            text = await asyncio.to_thread(crdt.text_of, state)
            if await self.rows.save(row, state, text):
                return _Saved(row.version + 1, state)
        raise Busy(f"{document}: {TRIES} other writers were quicker")

    async def _tell_store(
        self, document: str, epoch: int, loaded: Loaded, saved: _Saved | None
    ) -> None:
        """Tell the store what the database has."""
        if saved and loaded.epoch == epoch and loaded.base != saved.version:
            held = await asyncio.to_thread(crdt.merge, loaded.updates)
            if await asyncio.to_thread(
                crdt.same, held, saved.state
            ):  # else whoever opens it next brings the rest
                await self.store.set_base(document, loaded, saved.version)
        if loaded.mark:
            await self.store.unmark(document, loaded.mark)
        entry = self.documents.get(document)
        if entry is None or entry.abandoned:
            if not (entry and entry.users):
                await self.store.remove(document, loaded)
            if entry:
                entry.abandoned = False


def member(sid: str, user: str) -> str:
    """Return how a socket stands among a document's users."""
    return f"{sid}|{user}"


def _next_batch(queue: deque[_Waiting]) -> list[_Waiting]:
    """Take edits that can go together; one that wants an empty document goes alone."""
    batch = [queue.popleft()]
    while queue and len(batch) < BATCH and not (batch[0].only_if_empty or queue[0].only_if_empty):
        batch.append(queue.popleft())
    return batch


def _answer(waiting: _Waiting, answer: int | Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)
