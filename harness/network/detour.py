"""Half-open connections: what is open falls silent for good, and new connections go another way.

It is what a firewall or a NAT device does that forgets its flows: no FIN, no RST, and a new
connection works. Toxiproxy's toxics hold for a whole proxy, so the old proxy is held for ever and
a second one takes the new connections; a file tells the dial hook where they have to go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.deploy.model import Link

PORTS_PER_DETOUR = 4000  # above those of all workers


def detour(link: Link) -> Link:
    """Return the link's successor: another proxy with a port of its own."""
    host, port = link.listen
    silent = (*link.silent, link.listen)
    name = f"{link.name.partition('.')[0]}.{len(silent)}"
    return replace(link, name=name, listen=(host, port + PORTS_PER_DETOUR), silent=silent)


def tell_dialers(path: Path, links: Iterable[Link]) -> None:
    """Write where dials to silent proxies have to go; the dial hook reads it at every dial."""
    ways = {shown(old): shown(link.listen) for link in links for old in link.silent}
    written = path.with_suffix(".new")
    written.write_text(json.dumps(ways), encoding="utf-8")
    written.replace(path)  # a reader sees the old file or the new one


def shown(address: tuple[str, int]) -> str:
    """Return host:port."""
    return f"{address[0]}:{address[1]}"
