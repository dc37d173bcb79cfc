"""Puts the collaborative documents of one worker together."""

from __future__ import annotations

from runtime.documents.events import Documents
from runtime.documents.journal import Journal
from runtime.documents.memory import MemoryDocuments
from runtime.documents.store import DocumentStore, Limits, RedisDocuments
from runtime.realtime.server import SocketServer
from runtime.redis.client import RedisClient
from runtime.redis.keys import Keys
from runtime.settings import Settings
from runtime.storage.database import Database
from runtime.storage.documents import DocumentRows
from runtime.storage.memberships import Memberships, Permission


def create_documents(
    settings: Settings,
    realtime: SocketServer,
    database: Database,
    memberships: Memberships,
    client: RedisClient | None,
) -> Documents:
    """Return the documents, listening; they live in the Redis of `client`, else in memory.

    Their origin is this life of the process: with a dead one's it would be taken for it.
    """
    limits = Limits(settings.ydoc_max_document_bytes, settings.ydoc_document_ttl)
    store: DocumentStore = MemoryDocuments(limits)
    if client is not None:
        keys = Keys(settings.redis_key_prefix)
        store = RedisDocuments(client, keys, limits, origin=realtime.pool.instance)
    documents = Documents(
        realtime,
        realtime.identities.current,
        Journal(store, DocumentRows(database), settings.ydoc_compact_after),
        most=settings.ydoc_max_documents_per_session,
        most_bytes=settings.ydoc_max_document_bytes,
    )

    async def note(identifier: str, user: str, role: str) -> Permission | None:
        return await memberships.permission("note", identifier, user, role)

    documents.access.register("note", note)
    documents.register(realtime.sio)
    realtime.on_leave.append(documents.left)
    return documents
