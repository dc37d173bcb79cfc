"""What of a scenario can be done to an external deployment, and what has to be left out."""

from __future__ import annotations

from typing import Any

from harness.changes import changed
from harness.scenario import Scenario
from harness.targets.external.description import External

LINK_FAULTS = ("latency", "cut")
PROVIDED = ("stops", "streams")  # minimum loads that only the harness's provider can count


def misfit(scenario: Scenario, told: External) -> str:
    """Return why the scenario's faults cannot be injected there; empty when all can."""
    if told.without_faults:
        return ""
    refused = [_refused(fault, scenario, told) for fault in scenario.faults]
    if scenario.redis.absent_at_boot_s:
        refused.append("redis.absent_at_boot_s needs a deployment that the harness has started")
    if scenario.neighbour:
        refused.append("a neighbour needs a deployment that the harness has started")
    if scenario.environment:
        names = ", ".join(scenario.environment)
        refused.append(f"the variables of its workers ({names}) are not the harness's to set")
    reasons = dict.fromkeys(filter(None, refused))
    if not reasons:
        return ""
    return f"{'; '.join(reasons)}. Its load alone: --without-faults"


def _refused(fault: Any, scenario: Scenario, told: External) -> str:
    """Return why one fault cannot be injected, by its name."""
    role = getattr(fault, "target", "") or getattr(fault, "workers", "")
    name = fault.name or f"{fault.kind} {role}".strip()
    if fault.kind not in LINK_FAULTS:
        return f"fault {name} needs a deployment that the harness has started"
    if told.toxiproxy is None:
        return f"fault {name} needs links: name a Toxiproxy in the file of --external"
    if told.topology != scenario.topology:
        other = told.topology or "of no known topology"
        return f"fault {name} is for {scenario.topology}, and the deployment is {other}"
    if fault.workers == "worker-with-most-tasks":
        return f"fault {name} needs the workers' processes: name a worker, as in worker:0"
    if scenario.topology == "cluster" and fault.target.startswith("primary-of:"):
        return f"fault {name} needs the names of the deployment's keys"
    return ""


def fitted(scenario: Scenario, told: External) -> Scenario:
    """Return the scenario as it is run there; raise UserError when it does not make sense so."""
    scenario = changed(scenario, {"target": "external"})
    if misfit(scenario, told):
        return scenario  # it will be skipped, with the reason
    changes: dict[str, Any] = {}
    if told.without_faults:
        changes |= {"faults": [], "redis.absent_at_boot_s": 0, "environment": {}}
        changes["neighbour"] = None
    changes["telemetry"] = False  # its workers' variables are not the harness's to set
    changes |= {"balancer": "none", "host": "processes", "workers": len(told.urls)}
    if told.topology:
        changes["topology"] = told.topology
    if not told.chats:
        changes["focus.stops_per_s"] = 0
    if not told.provider:
        enough = {k: v for k, v in scenario.enough.items() if k not in PROVIDED}
        changes["enough"] = enough
    return changed(scenario, changes)
