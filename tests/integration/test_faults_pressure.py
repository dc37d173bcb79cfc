"""Too much for a real server: messages, data, connections; and slots that move under load."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import OutOfMemoryError

from harness.deploy.direct import direct
from harness.fault_specs import FAULT_SPECS
from harness.faults.injector import Injector
from harness.faults.views import ask
from harness.plan import Plan, PlannedFault
from harness.waiting import wait_for
from tests.integration.test_faults_redis import running

EVENTS = ["inject", "confirm", "heal", "confirm_heal"]
COMMANDS = "open-webui:tasks:commands"


def spec(kind: str, target: str = "primary", **more: Any) -> dict[str, Any]:
    """Return a fault's spec as the scenario's schema fills it."""
    model = FAULT_SPECS[kind].model_validate({"kind": kind, "at": 0, "target": target, **more})
    return model.model_dump(mode="json")


@pytest.mark.slow
async def test_a_flood_drops_subscribers(tmp_path: Path) -> None:
    """One message beyond Redis's own limit ends every subscription, as CLIENT LIST shows."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        client = direct(bench.deployment.nodes[0])
        pubsub = client.pubsub()
        await pubsub.subscribe(COMMANDS)
        await bench.inject(spec("flood", channel="tasks"))
        assert list(bench.events()) == EVENTS, bench.events()
        evidence = bench.events()["confirm"]["evidence"]
        assert f"34000000 bytes to 1 subscribers of {COMMANDS}" in evidence
        assert "1 of 1 subscriptions were dropped" in evidence
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py is untyped
        await client.aclose()


@pytest.mark.slow
async def test_a_flood_that_nobody_hears_or_feels_is_an_error(tmp_path: Path) -> None:
    """Without a subscriber nothing was injected; a small message drops nobody."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("flood", channel="tasks", bytes=10))
        assert f"has subscribed to {COMMANDS}" in bench.events()["error"]["text"]


@pytest.mark.slow
async def test_a_full_server_refuses_writes_until_the_heal(tmp_path: Path) -> None:
    """Others' writes are refused meanwhile; afterwards nothing of the fault is left."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        client = direct(bench.deployment.nodes[0])
        running_fault = asyncio.create_task(bench.inject(spec("fill", room_mb=2), lasts=1.0))
        await wait_for(lambda: "confirm" in bench.events(), 10, "it is full")
        with pytest.raises(OutOfMemoryError):
            await client.set("mine", "x" * 300_000)
        await running_fault
        assert list(bench.events()) == EVENTS
        assert "refuses writes: " in bench.events()["confirm"]["evidence"]
        assert (
            "takes writes; maxmemory 0, noeviction" in (bench.events()["confirm_heal"]["evidence"])
        )
        assert await client.dbsize() == 0
        await client.aclose()


@pytest.mark.slow
async def test_a_full_server_that_evicts_takes_others_keys(tmp_path: Path) -> None:
    """Keys from before are gone, which the evidence counts; and no excuse is made for it."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        client = direct(bench.deployment.nodes[0])
        await client.mset({f"session:{number}": "x" * 1000 for number in range(200)})
        await bench.inject(spec("fill", policy="allkeys-lru", room_mb=2))
        assert list(bench.events()) == EVENTS
        assert "of 200 from before are gone" in bench.events()["confirm"]["evidence"]
        assert bench.events()["inject"]["loses_data"] is False
        assert 0 < await client.dbsize() < 200
        await client.aclose()


@pytest.mark.slow
async def test_a_storm_against_maxclients_is_refused_and_ends(tmp_path: Path) -> None:
    """Both faults prove themselves and heal, although the server takes no connection meanwhile."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        before = await ask(bench.deployment.nodes[0], lambda c: c.config_get("maxclients"))
        limit = spec("config", settings={"maxclients": "30"})
        storm = spec("connect-storm", connections=60)
        faults = (
            PlannedFault("f0", 0.0, 1.5, limit),
            PlannedFault("f1", 0.3, 1.2, storm),
        )
        injector = Injector(
            Plan(1, {}, faults, (), ()),
            *(bench.deployment, bench.context, bench.writer, bench.clock),
        )
        await injector.run(bench.clock.now())
        for identity in ("f0", "f1"):
            assert list(bench.events(identity)) == EVENTS, bench.events(identity)
        assert "connections are in use" in bench.events("f0")["confirm"]["evidence"]
        evidence = bench.events("f1")["confirm"]["evidence"]
        assert "maxclients 30" in evidence
        assert " refused 0 " not in evidence
        after = await ask(bench.deployment.nodes[0], lambda c: c.config_get("maxclients"))
        assert before == after


@pytest.mark.slow
async def test_maxclients_below_what_is_open_refuses_the_next(tmp_path: Path) -> None:
    """The server's own word is the evidence."""
    async with running("standalone", tmp_path, "processes") as bench:
        await bench.start()
        await bench.inject(spec("config", settings={"maxclients": "1"}))
        assert list(bench.events()) == EVENTS, bench.events()
        evidence = bench.events()["confirm"]["evidence"]
        assert "a further connection is refused: -ERR max number of clients reached" in evidence
        assert "(rejected_connections +" in evidence


@pytest.mark.slow
async def test_slots_move_under_load_and_back(tmp_path: Path) -> None:
    """No increment is lost on the way there and back, and every node knows the owners."""
    async with running("cluster", tmp_path, "processes") as bench:
        await bench.start()
        key = bench.deployment.target.key("tasks")
        host, port = bench.deployment.nodes[0].address
        client = RedisCluster(host=host, port=port)
        done = 0

        async def count() -> None:
            nonlocal done
            while True:
                await client.hincrby(key, "n", 1)  # type: ignore[misc]  # redis-py's union of both
                done += 1

        load = asyncio.create_task(count())
        await wait_for(lambda: done, 10, "the first increment")
        await bench.inject(spec("slot-move", "primary-of:tasks", slots=20, open_s=0.3), lasts=1.5)
        assert not load.done(), load
        load.cancel()
        assert list(bench.events()) == EVENTS, bench.events()
        evidence = bench.events()["confirm"]["evidence"]
        assert "20 slots (" in evidence
        assert "with 1 keys moved from" in evidence
        [node] = bench.events()["inject"]["nodes"]
        assert f"20 slots are back at {node}" in bench.events()["confirm_heal"]["evidence"]
        assert done > 10
        assert int(await client.hget(key, "n") or 0) in (done, done + 1)  # type: ignore[misc]  # as above
        await client.aclose()
