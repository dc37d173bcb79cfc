"""The names a scenario may use: roles per topology, guarantees, bounds, minimum loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.fault_specs import Fault
    from harness.scenario import Scenario

_COMMON_ROLES = ("primary", "all-nodes")
_REPLICA_ROLES = ("a-replica", "all-replicas")
_PURPOSES = ("primary-of:events", "primary-of:tasks", "primary-of:sessions")
NODE_ROLES: dict[str, tuple[str, ...]] = {
    "standalone": (*_COMMON_ROLES, *_PURPOSES),
    "sentinel": (
        *(*_COMMON_ROLES, *_REPLICA_ROLES, *_PURPOSES),
        *("a-sentinel", "all-sentinels", "a-minority"),
    ),
    "cluster": ("a-primary", "all-nodes", *_REPLICA_ROLES, *_PURPOSES, "a-minority"),
}
ALL_PEERS = "all-peers"  # of a partition: every other node and sentinel
WORKER_ROLES = ("all-workers", "a-worker", "worker-with-most-tasks")
GUARANTEES = (
    "sign-in-honoured",
    "sign-out-honoured",
    "sign-out-stays",
    "session-read-your-writes",
    "session-stays-removed",
    "session-is-own",
    "stop-ends-task",
    "stop-is-truthful",
    "finished-unlisted",
    "running-listed",
    "no-unexplained-end",
    "tasks-are-own",
    "tokens-exactly-once-in-order",
    "stream-end-told",
    "resync-hints-bounded",
    "deaf-time",
    "canaries-delivered",
    "connections-bounded-and-back",
    "connections-kept",
    "sockets-kept-and-back",
    "handshakes-kept",
    "nobody-lingers",
    "usage-ends",
    "config-agrees",
    "limit-held",
    "model-list-whole",
    "model-list-fresh",
    "loop-stall",
    "health-answers",
    "ready-truthful",
    "ready-means-working",
    "logs-bounded",
    "recovery",
    "faults-ridden-out",
    "others-undisturbed",
    "requests-end",
    "traces-reach-redis",
    "stop-trace-crosses",
    "answer-trace-crosses",
    "fault-really-happened",
    "enough-load",
    "load-healthy",
    "workers-alive",
)
LOADS: dict[str, str] = {  # guarantee → the rate under `focus` without which it does not apply
    "config-agrees": "config_changes_per_s",
    "limit-held": "sign_in_bursts_per_s",
    "model-list-whole": "model_refreshes_per_s",
    "model-list-fresh": "model_refreshes_per_s",
    "session-stays-removed": "session_ends_per_s",
    "nobody-lingers": "visits_per_s",
    "usage-ends": "visits_per_s",
    "tasks-are-own": "task_lists_per_s",
}
TRACED = frozenset({"traces-reach-redis", "stop-trace-crosses", "answer-trace-crosses"})
ENOUGH: dict[str, str] = {
    "stops": "acknowledged stops inside focus",
    "sign_outs": "acknowledged sign-outs inside focus",
    "config_changes": "acknowledged changes of the configuration inside focus",
    "sign_in_tries": "attempts to sign in, admitted or denied, inside focus",
    "model_refreshes": "model lists made anew inside focus",
    "session_ends": "acknowledged sign-outs that end a session inside focus",
    "visits": "visits of guests that ended inside focus",
    "canaries_per_pair": "canaries posted from each worker inside focus",
    "streams": "streams opened",
    "session_reads": "session reads answered",
    "requests_per_s": "operations a second over the load",
    "neighbour_streams": "streams that the neighbour's provider opened",
}


def default_bounds() -> dict[str, float]:
    """Return every default bound, from harness/bounds.yaml."""
    text = (Path(__file__).parent / "bounds.yaml").read_text(encoding="utf-8")
    bounds: dict[str, float] = yaml.safe_load(text)
    return bounds


def check_names(scenario: Scenario) -> None:
    """Raise ValueError for the first name in the scenario that does not exist."""
    for fault in scenario.faults:
        _check_fault(fault, scenario)
    _check_guarantees(scenario)
    for name in scenario.bounds:
        _check(name, default_bounds(), "bound")
    for name in scenario.enough:
        _check(name, ENOUGH, "minimum load")


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
        _check(target, roles, f"role of topology {scenario.topology}")
    _check_worker_role(getattr(fault, "workers", "all-workers"), scenario.workers)
    if fault.ends > scenario.duration_s:
        raise ValueError(
            f"fault at {fault.at:g} s is healed at {fault.ends:g} s, after the load ends "
            f"({scenario.duration_s:g} s); shorten `for_s` or lengthen `duration_s`"
        )


def check_guarantee(name: str) -> None:
    """Raise ValueError when there is no such guarantee, naming the nearest."""
    _check(name, GUARANTEES, "guarantee")


def check_target(name: str) -> None:
    """Raise ValueError when there is no such target, naming the nearest."""
    from harness.targets import get_target

    try:
        get_target(name)
    except UserError as error:
        raise ValueError(str(error)) from None


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
        _check(fault.peers, roles, f"role of topology {scenario.topology}")


def _check_worker_role(role: str, workers: int) -> None:
    if role.startswith("worker:"):
        number = role.removeprefix("worker:")
        if not number.isdigit() or int(number) >= workers:
            raise ValueError(f"no such worker `{role}`; expected worker:0 … worker:{workers - 1}")
        return
    _check(role, (*WORKER_ROLES, "worker:N"), "worker role")


def _check(name: str, known: object, what: str) -> None:
    names = [str(item) for item in known]  # type: ignore[attr-defined]  # any iterable
    if name in names:
        return
    hint = did_you_mean(name, names)
    raise ValueError(f"no such {what} `{name}`; {hint}known: {', '.join(sorted(names))}")
