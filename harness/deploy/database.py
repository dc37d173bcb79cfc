"""The database of a target that wants PostgreSQL: a private server for the run, else SQLite."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.deploy.postgres import Postgres, start_postgres
from harness.errors import MissingPart

if TYPE_CHECKING:
    from harness.deploy.model import Deployment
    from harness.deploy.spawner import Guardian

HOST = 4  # the last number of its address on the run's subnet


class TargetDatabase:
    """Starts the server when the target wants one; its files are removed after the guardian."""

    def __init__(self) -> None:
        self._server: Postgres | None = None

    async def start(
        self, guardian: Guardian, deployment: Deployment, say: Callable[[str], None]
    ) -> None:
        """Set `deployment.database_url`; without PostgreSQL say so and leave it to SQLite."""
        if not deployment.target.wants_postgres:
            return
        try:
            self._server = await start_postgres(guardian, f"{deployment.subnet}.{HOST}")
        except MissingPart as error:
            say(f"the target gets SQLite instead of PostgreSQL: {error}")
            return
        deployment.database_url = self._server.url

    def remove(self) -> None:
        """Remove the files of the server, which the guardian has ended."""
        if self._server is not None:
            self._server.remove()
