"""Mutant: who joins is announced to everybody, with the list of all who are online here."""

from __future__ import annotations

from typing import Any

from runtime.realtime.server import SocketServer
from tests.mutants.broken import serve

join = SocketServer._on_user_join


async def join_and_tell(self: SocketServer, sid: str, data: Any = None) -> dict[str, str] | None:
    """Let the socket in; then one message for each socket that there is, on every worker."""
    answer = await join(self, sid, data)
    online = sorted({known.identity.user.id for known in self.identities._known.values()})
    await self.emit("user-list", {"user_ids": online}, "")
    return answer


if __name__ == "__main__":
    SocketServer._on_user_join = join_and_tell  # type: ignore[method-assign]  # the defect
    serve()
