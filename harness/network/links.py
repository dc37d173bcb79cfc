"""The links worker → node: one Toxiproxy proxy each, so that one worker can be cut off alone.

Modes, and what they stand for (measured with Toxiproxy 2.12):

| mode | open connections | new connections | stands for |
|---|---|---|---|
| half-open | silent for good, never closed | pass | a firewall that forgot its flows |
| latency | every byte late | the same | a slow network |
| held | silent; at the heal, what was held arrives | the same | a partition that heals |
| refused | closed at once | refused | a firewall that rejects |
| reset | closed at once | RST at the first byte | a balancer that resets |

Toxiproxy's `reset_peer` alone leaves idle connections open, and sends RST only on connections
that it accepted while the toxic was on. So `reset` also disables and enables the proxy once:
open connections end at once (with FIN), later ones with RST.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from toxiproxy import Proxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import ProxyExists

from harness.deploy.direct import tls_of
from harness.deploy.model import Deployment, Link
from harness.deploy.undo import HOLDING, NEUTRAL
from harness.network.detour import detour, shown, tell_dialers
from harness.network.evidence import LinkError, Tls, Witness, after_heal, while_on
from harness.network.toxiproxy import PORT, Control

FIRST_PORT = 20000
PORTS_PER_WORKER = 100
TIMER_MS = 1.0  # Toxiproxy may wake up this much early
STREAMS = ("upstream", "downstream")


class Links:
    """Makes the links of a deployment and puts faults on them; every call changes a whole group."""

    def __init__(self, deployment: Deployment, detours: Path | None = None) -> None:
        self.deployment = deployment
        self._detours = detours  # the file that the workers' dial hook reads
        api = urlsplit(deployment.toxiproxy_url)
        self._control = Control(str(api.hostname), api.port or PORT)
        self._modes: dict[str, tuple[str, float]] = {}  # link → mode and, for latency, least ms
        self._witnesses: dict[str, Witness] = {}

    @property
    def lead_dials(self) -> bool:
        """Tell whether the workers' dials can be led to other links: by the dial hook."""
        return self._detours is not None and self.deployment.hooked

    async def create(self, workers: int) -> None:
        """Make one link for each worker and each node or sentinel; fill `deployment.links`."""
        deployment = self.deployment
        nodes = [*deployment.nodes, *deployment.sentinels]
        links = [
            Link(
                name=f"w{worker}-{node.name}",
                worker=worker,
                node=node.name,
                listen=(f"{deployment.subnet}.2", FIRST_PORT + PORTS_PER_WORKER * worker + index),
                upstream=node.address,
            )
            for worker in range(workers)
            for index, node in enumerate(nodes)
        ]
        body = [_proxy_body(link) for link in links]
        await self._call(lambda api: api.post("/populate", json=body))
        deployment.links = links

    async def latency(self, links: Sequence[Link], ms: float, jitter: float = 0) -> None:
        """Delay each way by half of `ms`, give or take half of `jitter`."""
        attributes = {"latency": math.ceil(ms / 2), "jitter": math.floor(jitter / 2)}
        await self._begin(links, "latency", max(0.0, ms - jitter - TIMER_MS))
        await self._call(lambda api: _poison(api, links, "latency", attributes))

    async def hold(self, links: Sequence[Link]) -> None:
        """Stop the bytes both ways and keep them; they are delivered at the heal."""
        await self._begin(links, "held")
        await self._call(lambda api: _poison(api, links, "bandwidth", {"rate": 0}))

    async def refuse(self, links: Sequence[Link]) -> None:
        """Close open connections and refuse new ones."""
        await self._begin(links, "refused")
        await self._call(lambda api: _enable(api, links, enabled=False))

    async def reset(self, links: Sequence[Link]) -> None:
        """End open connections at once, and new ones with RST at their first byte."""
        await self._begin(links, "reset")

        def work(api: type[APIConsumer]) -> None:
            _poison(api, links, "reset_peer", {"timeout": 0})
            _enable(api, links, enabled=False)
            _enable(api, links, enabled=True)

        await self._call(work)

    async def half_open(self, links: Sequence[Link]) -> None:
        """Silence open connections for good and let new ones pass; the links are replaced."""
        if self._detours is None:
            raise LinkError("half-open needs a file to lead the workers' dials, got none")
        await self._begin(links, "half-open")
        new = {link.name: detour(link) for link in links}
        body = [_proxy_body(link) for link in new.values()]
        await self._call(lambda api: api.post("/populate", json=body))
        deployment = self.deployment
        deployment.links = [new.get(link.name, link) for link in deployment.links]
        for old, link in new.items():
            self._modes[link.name] = self._modes.pop(old)
            if witness := self._witnesses.pop(old, None):
                self._witnesses[link.name] = witness
        await asyncio.to_thread(tell_dialers, self._detours, deployment.links)
        await self._call(lambda api: _poison(api, links, "bandwidth", {"rate": 0}))

    async def heal(self, links: Sequence[Link]) -> None:
        """Take every toxic's effect away and enable the proxies; healed links stay as they are."""
        await self._call(lambda api: _heal(api, links))
        for link in links:
            mode, _ = self._modes.pop(link.name, ("", 0.0))
            if mode == "half-open" and (witness := self._witnesses.pop(link.name, None)):
                await witness.close()  # it stays silent, as every connection of before

    async def close(self) -> None:
        """Drop the connections that evidence keeps open; the links stay as they are."""
        for witness in self._witnesses.values():
            await witness.close()
        self._witnesses.clear()
        self._control.close()

    async def evidence(self, links: Sequence[Link]) -> str:
        """Prove from outside, by PINGs over sockets of its own, what the links do now.

        Returns one sentence with numbers. Raises LinkError when a link does not behave as its
        mode says, or when there was nothing to try. Takes 0.3 s on held links, else some ms.
        """
        tried = await asyncio.gather(*(self._try(link) for link in links))
        facts = [fact for fact in tried if fact]
        if not facts:
            raise LinkError("no evidence: none of the nodes behind the links answers directly")
        skipped = len(tried) - len(facts)
        down = f"; {skipped} not tried, their node is down" if skipped else ""
        return f"{_summary(facts)}{down}"

    async def _try(self, link: Link) -> tuple[str, float] | None:
        mode, least_ms = self._modes.get(link.name, ("", 0.0))
        if mode:
            witness = self._witnesses.get(link.name)
            return await while_on(link, mode, least_ms, witness, self._tls(link))
        return await after_heal(link, self._witnesses.pop(link.name, None), self._tls(link))

    def _tls(self, link: Link) -> Tls:
        return tls_of(self.deployment.node(link.node))

    async def _begin(self, links: Sequence[Link], mode: str, least_ms: float = 0.0) -> None:
        """Open a witness connection per link before the fault; its fate is the evidence."""
        taken = [link.name for link in links if link.name in self._modes]
        if taken:
            raise LinkError(f"{mode}: {', '.join(taken)} carry another fault; heal that one first")
        witnesses = await asyncio.gather(
            *(Witness.open(link.listen, tls=self._tls(link)) for link in links)
        )
        for link, witness in zip(links, witnesses, strict=True):
            if stale := self._witnesses.pop(link.name, None):
                await stale.close()
            if witness:
                self._witnesses[link.name] = witness
            self._modes[link.name] = (mode, least_ms)

    async def _call(self, work: Callable[[type[APIConsumer]], object]) -> None:
        try:
            await asyncio.to_thread(self._control.call, work)
        except requests.RequestException as error:
            where = self.deployment.toxiproxy_url
            raise LinkError(f"Toxiproxy at {where} does not answer: {error}") from error


def _proxy_body(link: Link) -> dict[str, str]:
    return {"name": link.name, "listen": shown(link.listen), "upstream": shown(link.upstream)}


def _proxy(link: Link) -> Proxy:
    listen, upstream = shown(link.listen), shown(link.upstream)
    return Proxy(name=link.name, listen=listen, upstream=upstream, enabled=True)


def _poison(
    api: type[APIConsumer],
    links: Iterable[Link],
    toxic: str,
    attributes: dict[str, int],
) -> None:
    for link in links:
        for stream in STREAMS:
            try:
                _proxy(link).add_toxic(type=toxic, stream=stream, attributes=attributes)
            except ProxyExists:  # left there, neutral, by an earlier heal
                body = {"toxicity": 1.0, "attributes": attributes}
                _update(api, link, f"{toxic}_{stream}", body)


def _update(api: type[APIConsumer], link: Link, toxic: str, body: Mapping[str, Any]) -> None:
    api.post(f"/proxies/{link.name}/toxics/{toxic}", json=body)


def _enable(
    api: type[APIConsumer],  # noqa: ARG001 - proxies use it
    links: Iterable[Link],
    *,
    enabled: bool,
) -> None:
    for link in links:
        proxy = _proxy(link)
        if enabled:
            proxy.enable()
        else:
            proxy.disable()


def _heal(api: type[APIConsumer], links: Iterable[Link]) -> None:
    """Ask the server what is on, rather than trust a memory of it."""
    # A toxic that holds bytes is made neutral instead of removed: a removal tries for 5 s to
    # deliver what it held to each connection whose client has gone, and no new connection is
    # accepted meanwhile (chainRemoveToxic holds the collection's lock).
    known = api.get("/proxies").json()
    for link in links:
        proxy = _proxy(link)
        for toxic in known[link.name]["toxics"]:
            if toxic["type"] in HOLDING:
                _update(api, link, toxic["name"], NEUTRAL)
            else:
                proxy.destroy_toxic(toxic["name"])
        if not known[link.name]["enabled"]:
            proxy.enable()


def _summary(facts: list[tuple[str, float]]) -> str:
    """Return `6 links: …` per kind of fact, with the smallest and largest time in ms."""
    sentences = []
    for what in dict.fromkeys(fact for fact, _ in facts):
        times = [ms for fact, ms in facts if fact == what]
        low, high = min(times), max(times)
        sentences.append(f"{len(times)} links: {what.format(low=f'{low:.1f}', high=f'{high:.1f}')}")
    return "; ".join(sentences)
