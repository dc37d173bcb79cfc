"""What tests of the container host share: a host by its name, and what an engine holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.deploy import sweeper
from harness.deploy.containers import ContainerHost
from harness.deploy.engine import BUILT
from harness.deploy.folder import RunFolder
from harness.deploy.host import ProcessHost
from harness.deploy.model import Boxed, Deployment, Host
from harness.deploy.spawner import Guardian
from harness.errors import MissingPart


def usable(found_engine: Any, name: str) -> Any:
    """Return the docker client; else skip the test of this name, or fail where one is required."""
    if not isinstance(found_engine, MissingPart):
        return found_engine
    if os.environ.get("CONTAINER_ENGINE") == "required":
        pytest.fail(str(found_engine))
    pytest.skip(f"{name}: {str(found_engine).partition('. ')[0]}")


def host_named(name: str, guardian: Guardian, run: RunFolder) -> Host:
    """Return a host for Redis servers."""
    return ProcessHost(guardian) if name == "processes" else ContainerHost(guardian, run, BUILT)


async def boxed_part(guardian: Guardian, deployment: Deployment, image: str) -> Boxed:
    """Return how to start a part from an image, without any Redis in containers."""
    host = ContainerHost(guardian, guardian.run, BUILT)
    await host.containers.open(deployment.subnet, [image])
    boxed = host.boxed(image)
    assert boxed is not None
    return boxed


def made_by_runs_in(engine: Any, folder: Path) -> list[Any]:
    """Return the containers of runs whose reports are in a folder; other runs have their own."""
    found = engine.containers.list(all=True, filters={"label": sweeper.RUN})
    return [each for each in found if Path(each.labels[sweeper.RUN]).is_relative_to(folder)]


def networks_and_volumes(engine: Any) -> list[str]:
    """Return the ids of the engine's networks and volumes: no run makes any."""
    return sorted(each.id for each in (*engine.networks.list(), *engine.volumes.list()))
