"""What has to fit together in a scenario: names, faults, guarantees, what is expected of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.verdict import Verdict
from harness.vocabulary import (
    ALL_PEERS,
    ENOUGH,
    LOADS,
    NODE_ROLES,
    TRACED,
    WORKER_ROLES,
    check_guarantee,
    check_name,
    default_bounds,
)

if TYPE_CHECKING:
    from harness.fault_specs import Fault
    from harness.scenario import Scenario


def check_scenario(scenario: Scenario) -> None:
    """Raise ValueError for the first thing in a scenario that does not fit the rest."""
    _check_names(scenario)
    _check_neighbour(scenario)
    _check_expectations(scenario)


def _check_names(scenario: Scenario) -> None:
    """Raise ValueError for the first name in the scenario that does not exist."""
    for fault in scenario.faults:
        _check_fault(fault, scenario)
    _check_guarantees(scenario)
    for name in scenario.bounds:
        check_name(name, default_bounds(), "bound")
    for name in scenario.enough:
        check_name(name, ENOUGH, "minimum load")


def _check_guarantees(scenario: Scenario) -> None:
    """Raise ValueError for a guarantee that does not exist, or has nothing to judge."""
    for name in (*scenario.guarantees, *scenario.expected_red):
        check_guarantee(name)
    for name in scenario.guarantees:
        if name in LOADS and not getattr(scenario.focus, LOADS[name]):
            raise ValueError(f"`{name}` has nothing to judge: add `focus: {{{LOADS[name]}: 0.5}}`")
        if name in TRACED and scenario.telemetry is None:
            raise ValueError(f"`{name}` has nothing to judge: add `telemetry: on`")


def _check_fault(fault: Fault, scenario: Scenario) -> None:
    """Raise ValueError when it cannot be of this scenario: its parts, roles, workers or time."""
    _check_parts(fault, scenario)
    if target := getattr(fault, "target", None):
        roles = NODE_ROLES[scenario.topology]
        check_name(target, roles, f"role of topology {scenario.topology}")
    _check_worker_role(getattr(fault, "workers", "all-workers"), scenario.workers)
    if fault.ends > scenario.duration_s:
        raise ValueError(
            f"fault at {fault.at:g} s is healed at {fault.ends:g} s, after the load ends "
            f"({scenario.duration_s:g} s); shorten `for_s` or lengthen `duration_s`"
        )


def _check_parts(fault: Fault, scenario: Scenario) -> None:
    """Raise ValueError for a fault on what the deployment does not have."""
    balanced = fault.kind.startswith("balancer") or getattr(fault, "unlisted", False)
    if balanced and scenario.balancer == "none":
        raise ValueError("a fault on the balancer needs one: add `balancer: nginx`")
    if fault.kind.startswith("database-") and scenario.database != "postgresql":
        raise ValueError("a fault on the database needs a server: add `database: postgresql`")
    if fault.kind == "partition":
        if scenario.topology == "standalone":
            raise ValueError("a partition needs nodes that talk to each other: sentinel, cluster")
        roles = (*NODE_ROLES[scenario.topology], ALL_PEERS)
        check_name(fault.peers, roles, f"role of topology {scenario.topology}")


def _check_worker_role(role: str, workers: int) -> None:
    if role.startswith("worker:"):
        number = role.removeprefix("worker:")
        if not number.isdigit() or int(number) >= workers:
            raise ValueError(f"no such worker `{role}`; expected worker:0 … worker:{workers - 1}")
        return
    check_name(role, (*WORKER_ROLES, "worker:N"), "worker role")


def _check_neighbour(scenario: Scenario) -> None:
    """Raise ValueError when there is a neighbour where none can be."""
    if scenario.neighbour is None:
        return
    if scenario.redis.absent_at_boot_s:
        raise ValueError("a neighbour needs Redis at its start: drop `redis.absent_at_boot_s`")
    if scenario.redis.auth == "acl":
        raise ValueError(
            "a neighbour has no ACL users of its own: `redis.auth` may be none or password"
        )


def _check_expectations(scenario: Scenario) -> None:
    """Raise ValueError when what the scenario expects of a run contradicts itself."""
    if scenario.expected_red and scenario.expected is not Verdict.FAIL:
        raise ValueError("`expected_red` goes with `expected: fail`")
    judged = set(scenario.guarantees)
    named = {*scenario.expected_red, *(scenario.bug.guarantees if scenario.bug else ())}
    if judged and (unjudged := named - judged):
        raise ValueError(
            f"expected to be red, but not among `guarantees`: {', '.join(sorted(unjudged))}"
        )
    if scenario.expected_red and scenario.bug:
        raise ValueError("`expected_red` and `bug` say the same: keep `bug`, drop the other")
