"""Times until Redis is healthy, for each topology, host and way of securing it.

From placing the nodes until every server sees what it has to see. Making certificates, and asking
the target for its rules, are in it; a guardian, and for containers the image, are there before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.deploy import engine
from harness.errors import MissingPart
from harness.scenario import Redis
from tests.benchmarks.figures import Figures
from tests.benchmarks.test_deploy import Rounds

VARIANTS = {
    "plain": Redis(),
    "password": Redis(auth="password"),
    "acl": Redis(auth="acl"),
    "TLS": Redis(tls="server"),
    "acl, mutual TLS": Redis(auth="acl", tls="mutual"),
}
SERVERS = {"standalone": 1, "sentinel": 6, "cluster": 6}
ROUNDS = 3


@pytest.fixture(params=["processes", "containers"])
def host(request: pytest.FixtureRequest) -> str:
    """Return where Redis runs; containers are skipped by name without an engine and its image."""
    name: str = request.param
    if name == "containers":
        try:
            client = engine.connect()
            engine.provide(client, engine.BUILT)
        except MissingPart as error:
            pytest.skip(f"{request.node.name}: {error}")
        client.close()
    return name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("topology", SERVERS)
def test_healthy(
    benchmark: Any, figures: Figures, tmp_path: Path, topology: str, host: str, variant: str
) -> None:
    """Every server is healthy, as its flags say."""
    rounds = Rounds(topology, tmp_path, VARIANTS[variant], host)
    try:
        found = benchmark.pedantic(rounds.start, setup=rounds.prepare, rounds=ROUNDS)
    finally:
        rounds.close()
    assert found == SERVERS[topology]
    figures.note(f"{topology} on {host}, {variant}: healthy after", benchmark.stats["data"], "s")
