"""The user's Toxiproxy as links: which of its proxies lies between which worker and node."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

from harness.deploy.model import Deployment, Link
from harness.errors import UserError
from harness.network.toxiproxy import PORT, Control
from harness.targets.external.description import External, ProxyOf, Toxiproxy
from harness.targets.external.hosts import require_allowed

# a proxy says it, we do not
ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  # nosec B104


def links_of(told: Toxiproxy, deployment: Deployment, external: External) -> list[Link]:
    """Return a link for each proxy; blocks.

    Raises UserError when the server does not answer, and for a proxy that is not there, is
    switched off or carries a toxic already: what was there before the run must not be healed
    away by it.
    """
    api = urlsplit(told.url)
    control = Control(str(api.hostname), api.port or PORT)
    try:
        known = control.call(lambda client: client.get("/proxies").json())
    except requests.RequestException as error:
        raise UserError(
            f"{told.url}: expected the API of a Toxiproxy server, got {type(error).__name__}. Is "
            "it started, and is that its API's port (8474 unless told otherwise)?"
        ) from error
    finally:
        control.close()
    links = [_link(proxy, known, deployment, str(api.hostname), told.url) for proxy in told.proxies]
    listens = [f"tcp://{_bracketed(link.listen[0])}:{link.listen[1]}" for link in links]
    require_allowed(listens, external.allowed)
    return links


def _link(proxy: ProxyOf, known: Any, deployment: Deployment, host: str, api: str) -> Link:
    found = known.get(proxy.name) if isinstance(known, dict) else None
    nodes = {n.name: n for n in (*deployment.nodes, *deployment.sentinels)}
    if found is None:
        raise UserError(
            f"{api}: no proxy `{proxy.name}`; it has {', '.join(sorted(known or ())) or 'none'}"
        )
    if proxy.node not in nodes:
        raise UserError(
            f"toxiproxy.proxies: `{proxy.name}` leads to `{proxy.node}`, which is none of "
            f"{', '.join(nodes) or 'the nodes: name them by `redis:`'}"
        )
    if proxy.worker >= len(deployment.workers):
        raise UserError(
            f"toxiproxy.proxies: `{proxy.name}` is of worker {proxy.worker}; there are "
            f"{len(deployment.workers)} URLs, so 0 … {len(deployment.workers) - 1}"
        )
    if found["toxics"] or not found["enabled"]:
        what = "carries a toxic" if found["toxics"] else "is switched off"
        raise UserError(f"{api}: proxy `{proxy.name}` {what} already; put it right, then run again")
    listen, _, port = str(found["listen"]).rpartition(":")
    listen = listen.strip("[]")
    address = (host if listen in ANYWHERE else listen, int(port))
    return Link(proxy.name, proxy.worker, proxy.node, address, nodes[proxy.node].address)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
