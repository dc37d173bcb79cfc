"""Scenario key `neighbour`: a second deployment of the same target on the same Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.fault_specs import Model

if TYPE_CHECKING:
    from harness.scenario import Scenario


class Neighbour(Model):
    """It has a database, secret, provider, users and workers of its own; nothing of it is judged.

    `environment` holds variables of its workers, over those of the scenario.
    """

    workers: int = Field(1, ge=1, le=4)
    users: int = Field(4, ge=1, le=50)
    environment: dict[str, str | None] = Field({})


def check_neighbour(scenario: Scenario) -> None:
    """Raise ValueError when there is a neighbour where none can be."""
    if scenario.neighbour is None:
        return
    if scenario.redis.absent_at_boot_s:
        raise ValueError("a neighbour needs Redis at its start: drop `redis.absent_at_boot_s`")
    if scenario.redis.auth == "acl":
        raise ValueError(
            "a neighbour has no ACL users of its own: `redis.auth` may be none or password"
        )
