"""Makes the subject of a run on an external deployment: asked, fitted and announced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.environments.overlay import Environment
from harness.errors import UserError
from harness.plan import make_plan
from harness.scenario import Scenario
from harness.targets.external import ExternalTarget
from harness.targets.external.accounts import require_enough
from harness.targets.external.announce import announcement, requests, require_rate
from harness.targets.external.ask import ask
from harness.targets.external.description import External
from harness.targets.external.fit import misfit
from harness.targets.subject import Subject

NOWHERE = Environment("", (), {})


def external_subject(
    scenario: Scenario, told: External, seed: int, say: Callable[[str], None]
) -> Subject:
    """Return the subject; blocks for the questions. Raises UserError for every mistake."""
    if reason := misfit(scenario, told):
        return Subject(ExternalTarget(told, frozenset()), NOWHERE, False, unsuited=reason)
    plan = make_plan(scenario, seed)
    require_enough(plan, told)
    found = asyncio.run(ask(told))
    require_rate(scenario, told, requests(scenario, told, found.capabilities))
    for sentence in announcement(plan, scenario, told, found):
        say(sentence)
    return Subject(ExternalTarget(told, found.capabilities), NOWHERE, False, found=found)


def require_described(told: External | None) -> External:
    """Return the description; raise UserError without one."""
    if told is None:
        raise UserError(
            "target external: where is it? Give --url http://HOST:PORT, or --external FILE.yaml"
        )
    return told
