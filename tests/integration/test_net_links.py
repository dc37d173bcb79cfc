"""Each fault mode on a real Toxiproxy in front of a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import requests
from net_parts import guarded, linked, start_node

from harness.deploy.model import Deployment
from harness.deploy.spawner import Guardian
from harness.deploy.workers import detours_file
from harness.errors import UserError
from harness.network.evidence import LinkError, Witness
from harness.network.links import Links
from harness.network.toxiproxy import find_toxiproxy, start_toxiproxy
from tests.integration.container_parts import boxed_part

pytestmark = pytest.mark.skipif(find_toxiproxy() is None, reason="Toxiproxy is not installed")


class Site:
    """One Redis and the links of two workers to it."""

    def __init__(self, guardian: Guardian, deployment: Deployment, links: Links) -> None:
        self.guardian = guardian
        self.deployment = deployment
        self.links = links
        self.detours = detours_file(guardian.run)
        self.of_0 = [link for link in deployment.links if link.worker == 0]
        self.of_1 = [link for link in deployment.links if link.worker == 1]

    async def open(self, worker: int = 0) -> Witness:
        """Return an answered connection through a worker's link."""
        witness = await Witness.open(self.deployment.links[worker].listen)
        assert witness is not None
        return witness

    async def kill(self, name: str) -> None:
        """SIGKILL a process and wait for its end."""
        process = self.guardian.processes[name]
        process.signal(9)
        await process.wait(5)


@pytest.fixture(params=["process", "containers"])
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Give one Redis behind the links of two workers; Toxiproxy as a process or a container."""
    boxed, image = None, None
    if request.param == "containers":
        image = request.getfixturevalue("images")["toxiproxy"]
    async with guarded(tmp_path) as (guardian, deployment):
        host = f"{deployment.subnet}.10"
        deployment.nodes.append(await start_node(guardian, "redis-0", host))
        if image is not None:
            boxed = await boxed_part(guardian, deployment, image)
        links = await linked(guardian, deployment, workers=2, boxed=boxed)
        yield Site(guardian, deployment, links)
        await links.close()


async def test_links_are_named_and_addressed_per_worker_and_node(site: Site) -> None:
    """A link's name says worker and node; its port follows from both."""
    assert [(link.name, link.listen[1]) for link in site.deployment.links] == [
        ("w0-redis-0", 20000),
        ("w1-redis-0", 20100),
    ]
    assert "PONG" in await site.links.evidence(site.deployment.links)


async def test_held_bytes_arrive_at_the_heal_on_the_same_connection(site: Site) -> None:
    """`hold` silences an open connection without closing it; the heal delivers what was held."""
    mine = await site.open()
    await site.links.hold(site.of_0)
    assert (await mine.ping(0.3))[0] == "silent"
    assert "no PONG" in await site.links.evidence(site.of_0)
    await site.links.heal(site.of_0)
    assert (await mine.answer(1.0))[0] == "answered"
    assert "held PONG arrived on the same connection" in await site.links.evidence(site.of_0)
    await mine.close()


async def test_a_heal_survives_bytes_that_wait_on_many_connections(site: Site) -> None:
    """Another rate than 0 kills Toxiproxy when it meets what waits, so none is ever set."""
    waiting = [await site.open() for _ in range(40)]
    for _ in range(3):
        await site.links.hold(site.of_0)
        assert {(await w.ping(0.01))[0] for w in waiting} == {"silent"}
        await site.links.heal(site.of_0)
        assert {(await w.answer(5.0))[0] for w in waiting} == {"answered"}
        assert "PONG" in await site.links.evidence(site.of_0)
    url = f"{site.deployment.toxiproxy_url}/proxies/{site.of_0[0].name}"
    toxics = (await asyncio.to_thread(requests.get, url, timeout=5)).json()["toxics"]
    assert [(t["attributes"], t["toxicity"]) for t in toxics] == [({"rate": 0}, 0)] * 2
    for witness in waiting:
        await witness.close()


async def test_refused_closes_open_connections_and_refuses_new_ones(site: Site) -> None:
    """`refuse` ends what is open, even when idle, and nobody listens until the heal."""
    mine = await site.open()
    await site.links.refuse(site.of_0)
    assert (await mine.answer(1.0))[0] == "closed"
    await mine.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*site.of_0[0].listen)
    assert "refused" in await site.links.evidence(site.of_0)
    await site.links.heal(site.of_0)
    assert "PONG" in await site.links.evidence(site.of_0)


async def test_reset_ends_idle_connections_and_resets_new_ones(site: Site) -> None:
    """`reset` does not wait for bytes on open connections; new ones get RST."""
    mine = await site.open()
    await site.links.reset(site.of_0)
    assert (await mine.answer(1.0))[0] in ("closed", "reset")
    new = Witness(*await asyncio.open_connection(*site.of_0[0].listen))
    assert (await new.ping(1.0))[0] == "reset"
    await mine.close()
    await new.close()
    assert "reset" in await site.links.evidence(site.of_0)
    await site.links.heal(site.of_0)
    assert "PONG" in await site.links.evidence(site.of_0)


async def test_latency_delays_both_ways_together(site: Site) -> None:
    """`latency` of 80 ± 20 ms makes a PONG come after 60 ms or more, and goes with the heal."""
    await site.links.latency(site.of_0, 80, 20)
    mine = await Witness.open(site.of_0[0].listen, 2.0)
    assert mine is not None
    assert (await mine.ping(2.0))[1] >= 60
    assert "PONG after" in await site.links.evidence(site.of_0)
    await site.links.heal(site.of_0)
    assert "PONG within" in await site.links.evidence(site.of_0)
    await mine.close()


async def test_half_open_silences_what_is_open_for_good_and_lets_new_dials_pass(
    site: Site,
) -> None:
    """Old connections are never answered or closed again; the hook leads new dials elsewhere."""
    mine, other = await site.open(), await site.open(worker=1)
    await site.links.half_open(site.of_0)
    assert (await mine.ping(0.3))[0] == "silent"
    assert (await other.ping(1.0))[0] == "answered"
    new, untouched = site.deployment.links
    host = new.listen[0]
    assert json.loads(site.detours.read_text()) == {f"{host}:20000": f"{host}:24000"}
    assert untouched == site.of_1[0]
    assert "no PONG on an open connection" in await site.links.evidence([new])
    await site.links.heal([new])
    assert "PONG within" in await site.links.evidence([new])
    assert (await mine.answer(0.3))[0] == "silent"
    await site.links.half_open([new])  # a second time: the first detour is silent as well
    assert len(site.deployment.links[0].silent) == 2
    await site.links.heal(site.deployment.links[:1])
    await mine.close()
    await other.close()


async def test_a_fault_on_one_worker_leaves_the_other_alone(site: Site) -> None:
    """Links of other workers pass while one worker's are cut."""
    other = await site.open(worker=1)
    await site.links.hold(site.of_0)
    assert (await other.ping(1.0))[0] == "answered"
    await other.close()
    await site.links.heal(site.of_0)


async def test_evidence_contradicts_a_fault_that_is_not_there(site: Site) -> None:
    """A held link that passes (healed behind our back) is an error, not evidence."""
    await site.links.hold(site.of_0)
    stranger = Links(site.deployment)
    await stranger.heal(site.of_0)
    await stranger.close()
    with pytest.raises(LinkError, match="w0-redis-0 should be held"):
        await site.links.evidence(site.of_0)


async def test_a_second_fault_on_the_same_link_is_refused(site: Site) -> None:
    """Two faults on one link would heal each other; the second one is an error."""
    await site.links.hold(site.of_0)
    with pytest.raises(LinkError, match="another fault"):
        await site.links.refuse(site.of_0)
    await site.links.heal(site.of_0)
    await site.links.heal(site.of_0)  # healing twice is harmless


async def test_a_dead_node_is_no_evidence(site: Site) -> None:
    """When the node behind a link is down, the link proves nothing."""
    await site.kill("redis-0")
    await site.links.hold(site.of_0)
    with pytest.raises(LinkError, match="no evidence"):
        await site.links.evidence(site.of_0)


async def test_a_toxiproxy_that_is_gone_is_named(site: Site) -> None:
    """When the server died, the fault's error says so and where it was."""
    await site.kill("toxiproxy")
    with pytest.raises(LinkError, match=r"Toxiproxy at http://127.* does not answer"):
        await site.links.heal(site.of_0)


async def test_a_toxiproxy_whose_address_is_taken_is_a_users_mistake(
    site: Site,
) -> None:
    """Another run's server must not answer for ours; the message has address and reason."""
    with pytest.raises(UserError, match=r"needs 127.*:8474.*Address already in use"):
        await start_toxiproxy(site.guardian, site.deployment)
