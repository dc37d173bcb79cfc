"""Scenario key `neighbour`: a second deployment of the same target on the same Redis."""

from __future__ import annotations

from pydantic import Field

from harness.fault_specs import Model


class Neighbour(Model):
    """It has a database, secret, provider, users and workers of its own; nothing of it is judged.

    `environment` holds variables of its workers, over those of the scenario.
    """

    workers: int = Field(1, ge=1, le=4)
    users: int = Field(4, ge=1, le=50)
    environment: dict[str, str | None] = Field({})
