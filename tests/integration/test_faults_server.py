"""Faults that servers do on command, on real topologies: they happen, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.deploy.direct import direct
from harness.faults.views import ask
from harness.waiting import wait_for
from tests.integration.test_faults_redis import Bench, running

EVENTS = ["inject", "confirm", "heal", "confirm_heal"]


def spec(kind: str, target: str = "primary", **more: Any) -> dict[str, Any]:
    """Return the spec of a fault."""
    return {"kind": kind, "target": target, "for_s": 1.0, **more}


async def maxclients(bench: Bench) -> str:
    """Return the server's setting."""
    client = direct(bench.deployment.nodes[0])
    try:
        return str((await client.config_get("maxclients"))["maxclients"])
    finally:
        await client.aclose()


@pytest.mark.slow
async def test_standalone_settings_are_changed_and_restored(tmp_path: Path) -> None:
    """CONFIG SET shows in CONFIG GET; the heal brings the old value back."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        before = await maxclients(bench)
        await bench.inject(spec("config", settings={"maxclients": "77"}))
        assert list(bench.events()) == EVENTS
        assert f"maxclients {before} → 77" in bench.events()["confirm"]["evidence"]
        assert await maxclients(bench) == before


@pytest.mark.slow
async def test_a_setting_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Nothing is changed, and the record says which name is wrong."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("config", settings={"maxclient": "77"}))
        assert "knows no setting maxclient" in bench.events()["error"]["text"]


@pytest.mark.slow
async def test_standalone_flush_client_kill_and_pause(tmp_path: Path) -> None:
    """Keys are gone, a connection was closed, a paused server is silent and comes back."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        node = bench.deployment.nodes[0]
        client = direct(node)
        await client.set("key", "value")
        await bench.inject(
            spec("client-kill", type="normal"), spec("flush"), spec("client-pause", mode="all")
        )
        assert all(list(bench.events(f"f{number}")) == EVENTS for number in range(3))
        assert "closed" in bench.events("f0")["confirm"]["evidence"]
        assert "held 1 keys and was emptied" in bench.events("f1")["confirm"]["evidence"]
        assert bench.events("f1")["inject"]["loses_data"] is True
        assert "no PONG within 300 ms" in bench.events("f2")["confirm"]["evidence"]
        assert await ask(node, lambda c: c.dbsize()) == 0
        await client.aclose()


@pytest.mark.slow
async def test_a_flush_of_nothing_proves_nothing(tmp_path: Path) -> None:
    """An empty server has no key to lose: the fault is an error, so the verdict is unknown."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("flush"))
        assert "held no key to lose" in bench.events()["error"]["text"]


@pytest.mark.slow
async def test_paused_writes_are_silent_and_reads_are_not(tmp_path: Path) -> None:
    """CLIENT PAUSE WRITE holds a SET back."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("client-pause", mode="write"), lasts=1.0)
        assert list(bench.events()) == EVENTS
        assert "no answer to a write" in bench.events()["confirm"]["evidence"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "target"), [("sentinel", "primary"), ("cluster", "a-primary")]
)
async def test_an_orderly_failover_moves_the_primary(
    tmp_path: Path, topology: str, target: str
) -> None:
    """Another node is primary, the switch is seen, and the old one ends as its replica."""
    async with running(topology, tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("failover", target))
        assert list(bench.events()) == EVENTS
        [old] = bench.events()["inject"]["nodes"]
        assert f"in the place of {old}" in bench.events()["confirm"]["evidence"]
        assert f"{old} is a replica again" in bench.events()["confirm_heal"]["evidence"]
        await wait_for(lambda: bench.records("switch"), 5, "the switch was seen")
