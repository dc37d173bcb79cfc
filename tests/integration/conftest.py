"""The container engine of the tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from docker.errors import ImageNotFound

from harness.deploy import engine as engines
from harness.deploy.images import build
from harness.errors import MissingPart


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """Yield a docker client, with the default image built; skip by name without an engine."""
    try:
        client = engines.connect()
    except MissingPart as error:
        if os.environ.get("CONTAINER_ENGINE") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))
    try:
        client.images.get(engines.BUILT)
    except ImageNotFound:
        build()
    yield client
    client.close()
