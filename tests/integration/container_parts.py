"""What tests of the container host share: a host by its name, and what an engine holds."""

from __future__ import annotations

from typing import Any

from harness.deploy.containers import ContainerHost
from harness.deploy.engine import BUILT
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.model import Host
from harness.deploy.spawner import Guardian


def host_named(name: str, guardian: Guardian, run: RunFolder) -> Host:
    """Return a host for Redis servers."""
    return ProcessHost(guardian) if name == "processes" else ContainerHost(guardian, run, BUILT)


def inventory(engine: Any) -> dict[str, list[str]]:
    """Return the ids of the engine's containers, networks and volumes."""
    return {
        "containers": sorted(each.id for each in engine.containers.list(all=True)),
        "networks": sorted(each.id for each in engine.networks.list()),
        "volumes": sorted(each.id for each in engine.volumes.list()),
    }
