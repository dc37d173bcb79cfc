"""Where the edits of open documents are, shared by all workers: Redis, or this process's memory.

| key | type | content |
|---|---|---|
| `P:ydoc:documents:{ID}:updates` | list | Y.js updates, binary, in any order |
| `P:ydoc:documents:{ID}:meta` | hash | see `documents_scripts` |
| `P:ydoc:documents:{ID}:users` | zset | `socket|user` → end of its lease |
| `P:ydoc:unsaved` | zset | document → its last edit that nobody has saved yet |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.documents import scripts as scripts
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.redis.wire import Argument

LEASE_S = 12.0  # how long a socket of a killed worker is still shown
NOTHING = -1  # base of a list that holds nothing of the database
UNLIMITED = 1 << 40
DEADLINE_S = 1.5
LIMIT_BYTES, LIMIT_LIFETIME_S = 2 * 1024 * 1024, 3600
STORED, TOO_LARGE, NOT_EMPTY, NOT_TRIED = 1, 2, 3, 4

Numbered = tuple[int, bytes]


class Replaced(Exception):
    """The document's content was replaced from outside since it was opened here."""


@dataclass(frozen=True)
class Limits:
    """Of one document: bytes that its edits may take, seconds that they live unused."""

    document_bytes: int = LIMIT_BYTES
    lifetime_s: int = LIMIT_LIFETIME_S


@dataclass(frozen=True)
class Loaded:
    """What the store holds. `mark` is of the last unsaved edit, empty when all is saved."""

    epoch: int
    base: int
    updates: list[bytes]
    mark: str = ""

    @property
    def digest(self) -> str:
        """Return what a script compares before it replaces exactly these updates."""
        return hashlib.sha1(b"".join(self.updates), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Append:
    """Updates of this worker. `base` is the database version whose content they bring."""

    epoch: int
    updates: Sequence[Numbered]
    only_if_empty: bool = False
    base: int = NOTHING
    unlimited: bool = False


@dataclass(frozen=True)
class Appended:
    """The length of the list now, and what became of each update.

    Behind one that was refused, others are NOT_TRIED: so a number that the store has tells that all
    before it were stored or refused, also to a call that is sent again after its answer was lost.
    """

    length: int
    answers: list[int]


@dataclass(frozen=True)
class Renewal:
    """Members whose lease has ended, and members of ours that others do not know (any more)."""

    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


class DocumentStore(Protocol):
    """Raises RedisUnavailable when nobody knows whether a call was carried out."""

    async def join(self, document: str, epoch: int, member: str) -> int:
        """Begin a lease; return the base. Raises Replaced."""

    async def append(self, document: str, what: Append) -> Appended:
        """Store updates that are not there yet; number 0 stands for the content of `base`.

        Raises Replaced.
        """

    async def load(self, document: str) -> Loaded:
        """Return all updates."""

    async def compact(self, document: str, old: Loaded, snapshot: bytes) -> bool:
        """Put one update in the place of the loaded ones; False when they changed meanwhile.

        True when it is there already: an earlier answer was lost.
        """

    async def renew(self, members: dict[str, list[str]]) -> dict[str, Renewal]:
        """Prolong the leases (document → members); tell which have ended, until they are buried."""

    async def bury(self, members: dict[str, list[str]]) -> None:
        """Remove members (by document) whose lease has ended, unless they are back."""

    async def leave(self, members: Sequence[tuple[str, str]]) -> None:
        """End leases: (document, member)."""

    async def users(self, document: str) -> list[str]:
        """Return the members."""

    async def set_base(self, document: str, held: Loaded, base: int) -> bool:
        """Note that the database's version `base` holds nothing that is not in `held`."""

    async def remove(self, document: str, saved: Loaded) -> bool:
        """Forget a document without users that is as it was loaded."""

    async def last_numbers(self, documents: Sequence[str]) -> list[int]:
        """Return the number of this worker's last stored update in each document."""

    async def mark(self, document: str) -> None:
        """Note that a document has edits that are not in the database."""

    async def unmark(self, document: str, mark: str) -> None:
        """Take the note back, unless it was made again since."""

    async def adopt(self, age_s: float, most: int) -> list[str]:
        """Return documents that nobody saved for this long."""


class RedisDocuments:
    """The store of all workers, on any topology. `origin` names this process, for ever."""

    def __init__(self, redis: RedisClient, keys: Keys, limits: Limits, origin: str) -> None:
        self._origin = origin
        self._redis = redis
        self._keys = keys
        self._limits = limits

    async def join(self, document: str, epoch: int, member: str) -> int:
        """Begin a lease; return the base. Raises Replaced."""
        lifetime = self._limits.lifetime_s
        reply = await self._run(scripts.JOIN, document, epoch, lifetime, LEASE_S, member)
        if (base := int(reply[0])) < NOTHING:
            raise Replaced(document)
        return base

    async def append(self, document: str, what: Append) -> Appended:
        """Store updates that are not there yet. Raises Replaced."""
        most = UNLIMITED if what.unlimited else self._limits.document_bytes
        head = (what.epoch, self._limits.lifetime_s, self._origin, most)
        options = (int(what.only_if_empty), what.base)
        pairs = [word for pair in what.updates for word in pair]
        reply = await self._run(scripts.APPEND, document, *head, *options, *pairs)
        if int(reply[0]) < 0:
            raise Replaced(document)
        return Appended(int(reply[0]), [int(answer) for answer in reply[1:]])

    async def load(self, document: str) -> Loaded:
        """Return all updates."""
        updates, meta, _ = self._keys.document(document)
        # the mark first: it may be older than the updates, never newer
        mark = await self._redis.run(
            lambda r: r.zscore(self._keys.documents_unsaved, document), idempotent=True
        )
        fields, entries = await self._redis.pipeline(
            [("HMGET", meta, "epoch", "base"), ("LRANGE", updates, 0, -1)], deadline=DEADLINE_S
        )
        epoch, base = (int(value) if value is not None else NOTHING for value in fields)
        binary = [_binary(entry) for entry in entries]
        return Loaded(epoch, base, binary, _score(mark))

    async def compact(self, document: str, old: Loaded, snapshot: bytes) -> bool:
        """Put one update in the place of the loaded ones; False when they changed meanwhile."""
        words = (len(old.updates), old.digest, snapshot)
        return bool(await self._run(scripts.COMPACT, document, *words))

    async def renew(self, members: dict[str, list[str]]) -> dict[str, Renewal]:
        """Prolong the leases (document → members); tell which have ended, until they are buried."""
        lifetime = self._limits.lifetime_s
        commands = [
            self._command(scripts.RENEW, document, lifetime, LEASE_S, *here)
            for document, here in members.items()
        ]
        replies = await self._redis.pipeline(commands, deadline=DEADLINE_S)
        return {d: Renewal(*reply) for d, reply in zip(members, replies, strict=True)}

    async def bury(self, members: dict[str, list[str]]) -> None:
        """Remove members (by document) whose lease has ended, unless they are back."""
        commands = [self._command(scripts.BURY, d, *gone) for d, gone in members.items()]
        await self._redis.pipeline(commands, deadline=DEADLINE_S)

    async def leave(self, members: Sequence[tuple[str, str]]) -> None:
        """End leases: (document, member)."""
        users = [(self._keys.document(document)[2], member) for document, member in members]
        await self._redis.pipeline([("ZREM", key, member) for key, member in users])

    async def users(self, document: str) -> list[str]:
        """Return the members."""
        return list(await self._run(scripts.USERS, document))

    async def set_base(self, document: str, held: Loaded, base: int) -> bool:
        """Note that the database's version `base` holds nothing that is not in `held`."""
        words = (held.epoch, held.base, base, len(held.updates), held.digest)
        return bool(await self._run(scripts.SET_BASE, document, *words))

    async def remove(self, document: str, saved: Loaded) -> bool:
        """Forget a document without users that is as it was loaded."""
        words = (len(saved.updates), saved.digest)
        return bool(await self._run(scripts.REMOVE, document, *words))

    async def last_numbers(self, documents: Sequence[str]) -> list[int]:
        """Return the number of this worker's last stored update in each document."""
        metas = [self._keys.document(document)[1] for document in documents]
        field = f"o:{self._origin}"
        found = await self._redis.pipeline([("HGET", meta, field) for meta in metas])
        return [int(number or 0) for number in found]

    async def mark(self, document: str) -> None:
        """Note that a document has edits that are not in the database."""
        await self._unsaved(scripts.MARK, document)

    async def unmark(self, document: str, mark: str) -> None:
        """Take the note back, unless it was made again since."""
        await self._unsaved(scripts.UNMARK, document, mark)

    async def adopt(self, age_s: float, most: int) -> list[str]:
        """Return documents that nobody saved for this long."""
        return list(await self._unsaved(scripts.ADOPT, age_s, most))

    def _command(self, script: str, document: str, *words: Argument) -> tuple[Argument, ...]:
        return ("EVAL", script, 3, *self._keys.document(document), *words)

    async def _run(self, script: str, document: str, *words: Argument) -> Any:
        """Run a script of one document; all may be sent again without harm."""
        command = self._command(script, document, *words)
        return (await self._redis.pipeline([command], deadline=DEADLINE_S))[0]

    async def _unsaved(self, script: str, *words: Argument) -> Any:
        command = ("EVAL", script, 1, self._keys.documents_unsaved, *words)
        return (await self._redis.pipeline([command]))[0]


def _binary(text: Any) -> bytes:
    """Return the bytes of a reply that was decoded: `wire` keeps every byte (surrogateescape)."""
    return text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogateescape")


def _score(mark: Any) -> str:
    """Return the score in full: it is compared with the one that Redis has then."""
    return "" if mark is None else repr(float(mark))
