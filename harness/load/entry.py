"""The way in: to the workers themselves, or to the balancer in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deploy.model import PIN_HEADER, SERVED_HEADER

if TYPE_CHECKING:
    from harness.deploy.model import Deployment


@dataclass(frozen=True)
class Entry:
    """The workers' URLs in order of their numbers, and the balancer's; empty: there is none.

    Most operations are *pinned*: a guarantee says what one worker must know of another. Behind a
    balancer the pin is a header. Operations without a pin are placed by the balancer.
    """

    urls: tuple[str, ...]
    balancer: str = ""

    @classmethod
    def of(cls, deployment: Deployment) -> Entry:
        """Return the way into a deployment."""
        balancer = deployment.balancer.url if deployment.balancer else ""
        return cls(tuple(worker.url for worker in deployment.workers), balancer)

    def url(self, worker: int) -> str:
        """Return the base URL to dial for a worker."""
        return self.balancer or self.urls[worker]

    def pin(self, worker: int | None) -> dict[str, str]:
        """Return the headers that bring a request to a worker; none for the balancer's choice."""
        return {PIN_HEADER: str(worker)} if self.balancer and worker is not None else {}

    def served(self, headers: Mapping[str, str] | None) -> int | None:
        """Return the worker that an answer of the balancer names; None when it names none.

        After a retry the header holds every address that was tried, the last one answered.
        """
        tried = (headers or {}).get(SERVED_HEADER) or ""
        url = f"http://{tried.rpartition(',')[2].strip()}"
        return self.urls.index(url) if url in self.urls else None

    def misplaced(self, worker: int | None, headers: Mapping[str, str] | None) -> str:
        """Return what is wrong with where a good answer came from; empty when nothing is.

        A pin that is not kept, or an answer of nobody, would make every check judge the wrong
        worker.
        """
        if not self.balancer:
            return ""
        served = self.served(headers)
        if served is None:
            return f"the balancer's answer does not say by {SERVED_HEADER} which worker gave it"
        if worker is not None and served != worker:
            return f"the balancer sent a request for worker {worker} to worker {served}"
        return ""
