"""What a run will do to an external deployment, said before it does it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import UserError
from harness.plan import Plan, load_seconds
from harness.scenario import Scenario
from harness.shape import peak_users
from harness.targets.base import SESSION_DATA
from harness.targets.external.accounts import needed
from harness.targets.external.ask import Found
from harness.targets.external.description import External

PROBES_PER_S = 4.0  # of each worker: /health and /ready, twice a second
PROBES_AFTER = 4  # of a signed-out token, on each worker: until it is refused
HOW = "Lower it by --users N, --set load.reads_per_s=…, --set focus.sign_outs_per_s=…"


@dataclass(frozen=True)
class Requests:
    """Requests a second at the load's peak, by who sends them."""

    users: float
    timetable: float
    probes: float

    @property
    def peak(self) -> int:
        """Return the sum, rounded up."""
        return math.ceil(self.users + self.timetable + self.probes)


def requests(scenario: Scenario, told: External, capabilities: frozenset[str]) -> Requests:
    """Return the planned requests a second inside focus, where they are most."""
    workers, load, focus = scenario.workers, scenario.load, scenario.focus
    session = 1 + workers if SESSION_DATA in capabilities else 0
    think = sum(load.think_s) / 2
    if told.chats:
        round_s, each = load.chats.tokens / load.chats.tokens_per_s + think, 4 + session
    else:
        round_s, each = think, 1 + session
    shape = scenario.load_shape
    users = peak_users(shape) * each / max(round_s, 0.1)
    reads = max(max(stretch.reads_per_s) for stretch in shape)
    sign_out = 1 + workers * (1 + PROBES_AFTER)
    timetable = reads + 2 * focus.stops_per_s + sign_out * focus.sign_outs_per_s
    return Requests(users, timetable, workers * (PROBES_PER_S + focus.canaries_per_s))


def require_rate(scenario: Scenario, told: External, asked: Requests) -> None:
    """Raise UserError when the scenario plans more than --max-rate."""
    if told.max_rate and asked.peak > told.max_rate:
        raise UserError(
            f"--max-rate {told.max_rate:g}: {scenario.name} plans about {asked.peak} requests/s "
            f"at its peak: users {asked.users:.0f}, timetable {asked.timetable:.0f}, probes "
            f"{asked.probes:.0f}. {HOW}"
        )


def announcement(plan: Plan, scenario: Scenario, told: External, found: Found) -> list[str]:
    """Return the sentences; the rate is checked by `require_rate` before."""
    asked = requests(scenario, told, found.capabilities)
    cap = f", never more than {told.max_rate:g}" if told.max_rate else ", no --max-rate"
    allowed = f" (allowed by name: {', '.join(sorted(told.allowed))})" if told.allowed else ""
    return [
        f"will load {', '.join(told.urls)}{allowed} for {load_seconds(scenario):g} s with "
        f"{plan.users} users and about {asked.peak} requests/s at the peak{cap}",
        _accounts(plan, told),
        _chats(told),
        _faults(scenario, told),
        f"offers: {', '.join(sorted(found.capabilities)) or 'the common routes only'}",
    ]


def _accounts(plan: Plan, told: External) -> str:
    count = needed(plan)
    if told.accounts:
        return f"will sign in with {count} of the {len(told.accounts)} accounts that were given"
    email = told.admin.email if told.admin else ""
    return f"will make {count} accounts as {email}, and remove them at the end"


def _chats(told: External) -> str:
    if told.provider:
        return f"will answer chats itself, as the provider at {told.provider}"
    if told.model:
        return f"will start chats with {told.model}: whoever serves it does the work"
    return "will start no chats: give --provider URL, or --model NAME of the deployment's own"


def _faults(scenario: Scenario, told: External) -> str:
    if not scenario.faults:
        return "will inject no faults" + (" (--without-faults)" if told.without_faults else "")
    names = [f"{f.kind} at {f.at:g} s for {getattr(f, 'for_s', 0):g} s" for f in scenario.faults]
    where = told.toxiproxy.url if told.toxiproxy else ""
    return f"will put faults on {where}: {', '.join(names)}; healed whatever happens"
