"""What is saved of collaborative documents: the server's own merged state, with its version."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from runtime.storage.database import Database, metadata

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("id", sa.String(128), primary_key=True),  # note:{note id}
    sa.Column("epoch", sa.Integer, nullable=False),  # how often it was replaced from outside
    sa.Column("version", sa.Integer, nullable=False),  # grows with every write
    sa.Column("state", sa.LargeBinary, nullable=True),  # a Y.js update; none: nothing edited yet
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class DocumentRow:
    """One saved document. `text` is what `state` shows, or what it was replaced with."""

    id: str
    epoch: int
    version: int
    state: bytes | None
    text: str


class DocumentRows:
    """Raises DatabaseUnavailable when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, document: str) -> DocumentRow | None:
        """Return a document, None when it was never opened."""
        row = await self._database.read(lambda c: c.execute(_GET, {"document": document}).first())
        return DocumentRow(*tuple(row)) if row else None

    async def open(self, document: str) -> DocumentRow:
        """Return a document; make an empty one when there is none."""
        if (found := await self.get(document)) is not None:
            return found
        made = DocumentRow(document, 0, 0, None, "")
        values = {**made.__dict__, "saved_at": time.time()}
        try:
            await self._database.write(lambda c: c.execute(documents.insert().values(values)))
        except IntegrityError:  # another worker was quicker
            return await self.get(document) or made
        return made

    async def save(self, known: DocumentRow, state: bytes, text: str) -> bool:
        """Store a newer state; False when somebody stored another since `known` was read."""
        values = {"state": state, "text": text, "version": known.version + 1}
        query = (
            documents.update()
            .where(documents.c.id == known.id, documents.c.version == known.version)
            .values({**values, "saved_at": time.time()})
        )
        return await self._database.write(lambda c: c.execute(query).rowcount == 1)

    async def replace(self, document: str, text: str) -> DocumentRow:
        """Put other content in the place of all edits so far."""
        await self.open(document)
        query = (
            documents.update()
            .where(documents.c.id == document)
            .values(
                epoch=documents.c.epoch + 1,
                version=documents.c.version + 1,
                state=None,
                text=text,
                saved_at=time.time(),
            )
        )
        await self._database.write(lambda c: c.execute(query))
        return await self.open(document)


_GET = sa.select(
    *(documents.c.id, documents.c.epoch, documents.c.version, documents.c.state, documents.c.text)
).where(documents.c.id == sa.bindparam("document"))
