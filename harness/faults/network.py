"""Faults on the links worker → node: latency, and cut in three honest ways."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar

from harness.deploy.model import Link
from harness.faults.base import Aim, Fault, FaultError
from harness.faults.context import NotInjectedError
from harness.faults.roles import aimed_workers, resolve_nodes
from harness.network.links import Links

NO_LINKS = (
    "needs Toxiproxy links between workers and Redis, and there are none: "
    "`make setup` installs Toxiproxy"
)


class LinkFault(Fault):
    """A fault on the links of some workers to some nodes; node-to-node traffic is untouched."""

    def available(self) -> str | None:
        """Return why it cannot run: without links there is nothing to act on."""
        if self.context.links is None or not self.deployment.links:
            return NO_LINKS
        return None

    async def aim(self) -> Aim:
        """Resolve both roles now. `all-nodes` means sentinels too: the way to Redis is cut."""
        nodes = await resolve_nodes(self.spec["target"], self.deployment, self.choices)
        if self.spec["target"] == "all-nodes":
            nodes = [*nodes, *(sentinel.name for sentinel in self.deployment.sentinels)]
        return Aim(nodes, await aimed_workers(self))

    @property
    def links(self) -> list[Link]:
        """Return the links it aims at; raise FaultError when there are none."""
        nodes, workers = set(self.target.nodes), set(self.target.workers)
        found = [
            link for link in self.deployment.links if link.node in nodes and link.worker in workers
        ]
        if not found:
            raise FaultError(f"no link from workers {sorted(workers)} to {sorted(nodes)}")
        return found

    @property
    def network(self) -> Links:
        """Return the links' controller."""
        links: Links | None = self.context.links
        if links is None:
            raise FaultError(NO_LINKS)
        return links

    async def inject(self) -> None:
        """Change the links; links that carry another fault are left to that one."""
        links = self.links
        names = {link.name for link in links}
        if taken := names & self.context.busy_links:
            raise NotInjectedError(f"{', '.join(sorted(taken))} carry another fault at this time")
        self.context.busy_links |= names
        await self.change(links)

    @abstractmethod
    async def change(self, links: list[Link]) -> None:
        """Put the fault on the links."""

    async def confirm(self) -> str:
        """Prove it from outside, by PINGs through the links."""
        return await self.network.evidence(self.links)

    async def heal(self) -> None:
        """Remove everything from the links."""
        await self.network.heal(self.links)
        self.context.busy_links -= {link.name for link in self.links}

    async def confirm_heal(self) -> str:
        """Prove from outside that PINGs pass again."""
        return await self.network.evidence(self.links)


class Latency(LinkFault):
    """Delay what passes, both ways together by about `latency_ms`."""

    kind: ClassVar[str] = "latency"

    async def change(self, links: list[Link]) -> None:
        """Delay the links."""
        await self.network.latency(links, self.spec["latency_ms"], self.spec["jitter_ms"])


class Cut(LinkFault):
    """Cut: `reset` (RST), `held` (delivered at the heal), `refused` (closed), or `half-open`."""

    kind: ClassVar[str] = "cut"

    def available(self) -> str | None:
        """Return why it cannot run: half-open needs the dial hook to lead new dials elsewhere."""
        links = self.context.links
        if links and self.spec["mode"] == "half-open" and not links.lead_dials:
            return "half-open needs the dial hook in workers that this run started"
        return super().available()

    async def change(self, links: list[Link]) -> None:
        """Cut the links in the mode of the scenario."""
        network = self.network
        ways: dict[str, Callable[[list[Link]], Awaitable[None]]] = {
            "reset": network.reset,
            "held": network.hold,
            "refused": network.refuse,
            "half-open": network.half_open,
        }
        await ways[self.spec["mode"]](links)
