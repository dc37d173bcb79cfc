"""No event is lost, repeated or reordered over outages and failovers, at 200 events/s a worker.

The longer outage, and how fast workers hear each other again, are in tests/benchmarks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.outages import Persistence, fail_over, restart

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("persistence", ["aof", "none"])
async def test_eight_seconds_without_redis(tmp_path: Path, persistence: Persistence) -> None:
    """The server comes back with its data, or empty."""
    await restart(tmp_path, 8.0, persistence)


@pytest.mark.parametrize("lagging", [False, True], ids=["in-step", "lagging"])
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_failover(tmp_path: Path, topology: str, lagging: bool) -> None:
    """The promoted replica has what the primary acknowledged, or misses the end of it."""
    await fail_over(tmp_path, topology, lagging=lagging)
