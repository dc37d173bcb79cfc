"""Where load may go, and where it says it comes from."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from harness.errors import UserError


def require_loopback(urls: list[str]) -> None:
    """Raise UserError for the first URL whose host is not in 127.0.0.0/8.

    Load breaks things; until targets can be named as the user's own, it stays on this machine.
    """
    for url in urls:
        host = urlsplit(url).hostname or ""
        if not _is_loopback(host):
            raise UserError(
                f"{url}: load goes only to this machine: expected a host in 127.0.0.0/8, "
                f"got {host or 'none'!r}. Start the target on a loopback address."
            )


def require_allowed(urls: list[str], allowed: frozenset[str]) -> None:
    """Raise UserError for the first URL whose host is neither loopback nor allowed by name."""
    for url in urls:
        host = urlsplit(url).hostname or ""
        if not _is_loopback(host) and host not in allowed:
            raise UserError(
                f"{url}: load goes only to loopback addresses and to hosts that are named: "
                f"if {host} is yours, add `--allow-host {host}`"
            )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 4 and address.is_loopback


def forwarded_for(number: int) -> str:
    """Return the client address that account `number` claims, so that limits see many clients."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
