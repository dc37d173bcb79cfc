"""Faults on servers with users and TLS: the evidence is the same as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.choices import Choices
from harness.faults.injector import Injector
from harness.faults.roles import resolve_nodes
from harness.network.toxiproxy import find_toxiproxy
from harness.plan import Plan, PlannedFault
from harness.scenario import Redis
from tests.integration.test_faults_pressure import EVENTS, spec
from tests.integration.test_faults_redis import Bench, kill, running
from tests.live import command

SECURED = Redis(auth="acl", tls="mutual")


async def started(bench: Bench, workers: int = 0, **changes: Any) -> None:
    """Start a bench with everything that can be secured."""
    bench.redis = SECURED.model_copy(update=changes)
    await bench.start(workers=workers)


async def inject(bench: Bench, number: int, spec: dict[str, Any]) -> None:
    """Have one fault go all its way; the next one comes when it is over, however long it took."""
    fault = PlannedFault(f"f{number}", 0.0, 0.4, spec)
    plan = Plan(1, {}, (fault,), (), ())
    injector = Injector(plan, bench.deployment, bench.context, bench.writer, bench.clock)
    assert injector.unavailable() == []
    await injector.run(bench.clock.now())


def evidence(bench: Bench, event: str, identity: str = "f0") -> str:
    """Return the evidence of a step of a fault that went all its way."""
    assert list(bench.events(identity)) == EVENTS, bench.events(identity)
    return str(bench.events(identity)[event]["evidence"])


@pytest.mark.slow
async def test_a_failover_in_containers(tmp_path: Path, engine: object) -> None:
    """There they have one address; the certificates are mounted with the nodes' folders."""
    del engine  # skips by name without one
    async with running("sentinel", tmp_path, "containers") as bench:
        await started(bench)
        said = await bench.fail_over(kill("primary"), "redis-0")
        assert "redis-0 is a replica again" in said


@pytest.mark.slow
async def test_a_kill_and_a_pause_are_proven(tmp_path: Path) -> None:
    """A dead server refuses the handshake's connection, a stopped one leaves it open."""
    async with running("standalone", tmp_path, "processes") as bench:
        await started(bench)
        await inject(bench, 0, kill("primary"))
        await inject(bench, 1, {"kind": "pause", "target": "primary", "for_s": 1.0})
        assert "ended by SIGKILL and refuses connections" in evidence(bench, "confirm")
        assert "answers PING" in evidence(bench, "confirm_heal")
        assert "state T, no PONG within 300 ms" in evidence(bench, "confirm", "f1")
        [switch] = bench.records("switch")
        assert "first PING answered" in switch["why"]


@pytest.mark.slow
async def test_a_crowded_server_turns_handshakes_away(tmp_path: Path) -> None:
    """Connections beyond `maxclients` end before they are encrypted; others count when open."""
    async with running("standalone", tmp_path, "processes") as bench:
        await started(bench, config={"maxclients": "30"})
        await inject(bench, 0, spec("connect-storm", connections=60))
        said = evidence(bench, "confirm")
        assert "maxclients 30" in said
        assert " refused 0 " not in said


@pytest.mark.slow
async def test_slots_move_between_nodes_that_ask_for_a_login(tmp_path: Path) -> None:
    """MIGRATE logs in at the other node; the key is where it was afterwards."""
    async with running("cluster", tmp_path, "processes") as bench:
        await started(bench)
        key = bench.deployment.target.key("tasks")
        [name] = await resolve_nodes("primary-of:tasks", bench.deployment, Choices(1, "x"))
        home = bench.deployment.node(name)
        await command(home, "SET", key, "1", socket_connect_timeout=10)
        await inject(bench, 0, spec("slot-move", "primary-of:tasks", slots=3, open_s=0.1))
        assert "with 1 keys moved from" in evidence(bench, "confirm")
        assert await command(home, "GET", key, socket_connect_timeout=10) == "1"


CUTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "cut", "mode": "held"}, "no PONG within"),
    ({"kind": "cut", "mode": "refused"}, "new one refused"),
    ({"kind": "cut", "mode": "reset"}, "new one reset"),
    ({"kind": "latency", "latency_ms": 60, "jitter_ms": 0}, "PONG after"),
]


@pytest.mark.slow
@pytest.mark.skipif(find_toxiproxy() is None, reason="Toxiproxy is not installed")
async def test_cuts_and_latency_are_seen_through_tls(tmp_path: Path) -> None:
    """Each mode has its evidence on encrypted links, and its heal as well."""
    async with running("sentinel", tmp_path, "processes") as bench:
        await started(bench, workers=1)
        for number, (cut, said) in enumerate(CUTS):
            await inject(bench, number, {**cut, "target": "all-nodes", "workers": "worker:0"})
            assert said in evidence(bench, "confirm", f"f{number}")
        assert "held PONG arrived on the same connection" in evidence(bench, "confirm_heal")
