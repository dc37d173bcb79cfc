"""What has to happen to open documents all the time: saving, repairing, presence."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.documents.journal import Busy, Journal, OpenDocument, member
from runtime.redis.errors import RedisUnavailable
from runtime.storage.database import DatabaseUnavailable
from runtime.supervision import Loop, Supervisor, wait_until

log = logging.getLogger(__name__)

LOOK_S = 0.25
QUIET_S = 0.5  # an editor who pauses for this long has the document saved,
LONGEST_UNSAVED_S = 2.0  # and one who does not pause, too
SAVES_AT_ONCE = 4
RENEW_S = 4.0  # a third of a lease
REPAIR_S = 1.0
ORPHAN_S = 10.0  # edits that their worker did not save for so long are saved by another
ORPHANS_AT_ONCE = 20
RETRY_S = 0.5

AWAY = (RedisUnavailable, DatabaseUnavailable, Busy)
Told = Callable[[str, str], Awaitable[None]]  # document, member


class Upkeep:
    """The background of a journal.

    `on_gone` and `on_new` hear of members whose lease ended or began, as nobody else told of them.
    """

    def __init__(self, journal: Journal, on_gone: Told, on_new: Told) -> None:
        self._journal = journal
        self._on_gone, self._on_new = on_gone, on_new
        self._turns = asyncio.Semaphore(SAVES_AT_ONCE)
        self.present: Callable[[str, str], bool] = lambda document, sid: True  # noqa: ARG005 - replaced
        self.saves = self.failed_saves = self.restored = 0

    def start(self, supervisor: Supervisor) -> None:
        """Begin; every loop is restarted when it fails."""
        supervisor.run("document saves", self._save_forever)
        supervisor.run("document repair", self._repair_forever)
        supervisor.run("document presence", self._renew_forever)

    # --- saving ----------------------------------------------------------------------------

    async def _save_forever(self, loop: Loop) -> None:
        while True:
            await wait_until(self._journal.edited, LOOK_S)
            now = time.monotonic()
            due = [e.id for e in self._journal.documents.values() if _due(e, now)]
            crowded = [e for e in self._journal.documents.values() if e.compacting]
            await asyncio.gather(*map(self.compact, crowded))
            if all(await asyncio.gather(*map(self.save, due))):
                loop.succeeded()
            else:
                await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))

    async def save(self, document: str) -> bool:
        """Save one document; False when the database or Redis is away, and it has to be again."""
        async with self._turns:
            try:
                await self._journal.save(document)
                self.saves += 1
                return True
            except AWAY as error:
                self.failed_saves += 1
                log.info("document %s not saved: %s", document, error)
                return False

    async def compact(self, entry: OpenDocument) -> None:
        """Shorten a long list of updates; it is tried again when Redis is away."""
        try:
            await self._journal.compact(entry.id)
            entry.compacting = False
        except RedisUnavailable as error:
            log.info("document %s not compacted: %s", entry.id, error.reason)

    async def save_all(self) -> None:
        """Save what is not: before this worker ends."""
        entries = list(self._journal.documents.values())
        await asyncio.gather(*(self.save(e.id) for e in entries if e.kept or e.abandoned))

    # --- repair ----------------------------------------------------------------------------

    async def _repair_forever(self, loop: Loop) -> None:
        while True:
            await asyncio.sleep(REPAIR_S * random.uniform(0.8, 1.2))
            try:
                self.restored += await self._journal.restore()
                for document in await self._journal.store.adopt(ORPHAN_S, ORPHANS_AT_ONCE):
                    await self.save(document)
                loop.succeeded()
            except RedisUnavailable as error:
                log.debug("documents not repaired: %s", error.reason)

    # --- presence --------------------------------------------------------------------------

    async def _renew_forever(self, loop: Loop) -> None:
        while True:
            await asyncio.sleep(RENEW_S * random.uniform(0.8, 1.0))
            try:
                await self.renew()
                loop.succeeded()
            except RedisUnavailable as error:
                log.debug("document users not renewed: %s", error.reason)

    async def renew(self) -> None:
        """Prolong the leases of our sockets; tell of those of dead workers, and of new ones."""
        self._forget_absent()
        members = {
            e.id: [member(sid, user) for sid, user in e.users.items()]
            for e in self._journal.documents.values()
            if e.users
        }
        renewed = await self._journal.store.renew(members)
        for document, renewal in renewed.items():
            for one in renewal.gone:
                await self._on_gone(document, one)
            for one in renewal.new:
                await self._on_new(document, one)
        gone = {document: renewal.gone for document, renewal in renewed.items() if renewal.gone}
        await self._journal.store.bury(gone)  # now: nobody would be told if an answer was lost

    def _forget_absent(self) -> None:
        """Forget sockets that are no longer in a document, whoever took them out of its room."""
        for entry in list(self._journal.documents.values()):
            for sid in [sid for sid in entry.users if not self.present(entry.id, sid)]:
                self._journal.forget_user(entry.id, sid)

    def status(self) -> dict[str, Any]:
        """Return what /ready tells."""
        entries = self._journal.documents.values()
        return {
            "open": len(entries),
            "unsaved": sum(bool(e.kept) for e in entries),
            "saves": self.saves,
            "failed_saves": self.failed_saves,
            "restored": self.restored,
        }


def _due(entry: OpenDocument, now: float) -> bool:
    if entry.abandoned:
        return True
    if not entry.kept:
        return False
    return now - entry.last_edit > QUIET_S or now - entry.first_edit > LONGEST_UNSAVED_S
