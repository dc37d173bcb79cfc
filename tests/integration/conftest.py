"""What several files of tests need: a container engine, a Redis server, a Redis Cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from bus_cluster import ClusterSet
from bus_servers import Server, serving
from container_parts import usable
from docker.errors import ImageNotFound

from harness.deploy import engine as engines
from harness.deploy.image_recipes import RECIPES
from harness.deploy.images import build
from harness.errors import MissingPart


@pytest.fixture(scope="session")
def found_engine() -> Iterator[Any]:
    """Yield a docker client, with the default image built, or the reason that there is none."""
    try:
        client = engines.connect()
    except MissingPart as error:
        yield error
        return
    try:
        client.images.get(engines.BUILT)
    except ImageNotFound:
        build()
    yield client
    client.close()


@pytest.fixture
def images(engine: Any, request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the image of Toxiproxy and of nginx, built when missing; skipped without programs."""
    parts = {part: engines.OURS + part for part in RECIPES if part != "redis"}
    for part, image in parts.items():
        try:
            engine.images.get(image)
        except ImageNotFound:
            try:
                build(part)
            except MissingPart as error:
                pytest.skip(f"{request.node.name}: {str(error).partition('. ')[0]}")
    return parts


@pytest.fixture
def engine(found_engine: Any, request: pytest.FixtureRequest) -> Any:
    """Return the docker client; without an engine the test is skipped by its name."""
    return usable(found_engine, request.node.name)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Give a standalone server."""
    async with serving(tmp_path) as found:
        yield found


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterSet]:
    """Give a healthy cluster."""
    servers = ClusterSet(tmp_path)
    try:
        await servers.start()
        yield servers
    finally:
        servers.kill()
