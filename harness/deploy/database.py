"""The database of a run: a private PostgreSQL server, or files of the target's own (SQLite)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.deploy.postgres import start_postgres
from harness.errors import MissingPart
from harness.targets.base import POSTGRESQL

if TYPE_CHECKING:
    from harness.deploy.model import Deployment
    from harness.deploy.spawner import Guardian
    from harness.scenario import Scenario

HOST = 4  # the last number of its address on the run's subnet
LEAST_CONNECTIONS = 100  # PostgreSQL's own default
SPARE = 20  # beside those of the workers


async def start_database(
    guardian: Guardian, deployment: Deployment, scenario: Scenario, say: Callable[[str], None]
) -> None:
    """Set `deployment.database` when it is to be PostgreSQL; nothing for SQLite.

    Where the scenario leaves it to the target and PostgreSQL is missing, say so: the target then
    gets SQLite. Where the scenario asks for it, raise MissingPart.
    """
    if (scenario.database or deployment.target.databases[0]) != POSTGRESQL:
        return
    needed = scenario.workers * sum(deployment.target.database_pool) + SPARE
    try:
        deployment.database = await start_postgres(
            guardian,
            f"{deployment.subnet}.{HOST}",
            connections=max(needed, LEAST_CONNECTIONS),
        )
    except MissingPart as error:
        if scenario.database:
            raise
        say(f"the target gets SQLite instead of PostgreSQL: {error}")
