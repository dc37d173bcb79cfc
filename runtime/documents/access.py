"""Who may open which document: every id has a kind, and every kind somebody who decides."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

from runtime.storage.memberships import Permission

# (id without its kind, user id, role) → what the user may do
Rights = Callable[[str, str, str], Awaitable[Permission | None]]

FRESH_S = 2.0  # a withdrawn right ends within this
MOST = 10_000
ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def normal_id(document: object) -> str:
    """Return the id in the form `kind:id`, empty when it is none; `note_…` is an old form."""
    text = document if isinstance(document, str) else ""
    if text.startswith("note_"):
        text = "note:" + text.removeprefix("note_")
    return text if ID.fullmatch(text) and ":" in text else ""


class DocumentAccess:
    """Decides by the kind of a document's id; a kind that nobody registered is refused."""

    def __init__(self) -> None:
        self._kinds: dict[str, Rights] = {}
        self._known: dict[tuple[str, str, str], tuple[float, Permission | None]] = {}

    def register(self, kind: str, rights: Rights) -> None:
        """Let `rights` decide about documents `kind:…`."""
        self._kinds[kind] = rights

    async def permission(
        self, document: str, user: str, role: str, *, fresh: bool = False
    ) -> Permission | None:
        """Return what a user may do with a document; unless `fresh`, the answer may be 2 s old.

        Raises DatabaseUnavailable: nobody knows, which is no refusal.
        """
        key, now = (document, user, role), time.monotonic()
        at, permission = self._known.get(key, (0.0, None))
        if at and not fresh and now - at < FRESH_S:
            return permission
        kind, _, identifier = document.partition(":")
        rights = self._kinds.get(kind)
        found = await rights(identifier, user, role) if rights and identifier else None
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[key] = now, found
        return found
