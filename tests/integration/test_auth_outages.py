"""Tokens when all of Redis is gone, on Sentinel and Cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_auth_workers import refused, statuses
from test_tasks_topologies import servers

from harness.waiting import wait_for
from tests.integration.app_deployment import deployment


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_sign_out_holds_without_redis(topology: str, tmp_path: Path) -> None:
    """With every node dead, valid tokens are good and a signed-out one is refused (W-40)."""
    async with (
        servers(topology, tmp_path) as (environ, nodes),
        deployment(with_redis=False, environ=environ) as parts,
    ):
        user, leaver = await parts.user(), await parts.user()
        socket = await leaver.connect(1)
        for node in nodes:
            node.kill()
        assert (await leaver.call("POST", "/api/v1/auths/signout", 0))[0] == 200
        await wait_for(lambda: refused(leaver), 1, "refused everywhere")
        assert await statuses(user) == [200, 200]
        await wait_for(lambda: not socket.connected, 3, "socket of the other worker closed")
        await leaver.leave()
