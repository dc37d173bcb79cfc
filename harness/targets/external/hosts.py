"""Which hosts a run may speak to: this machine, and those that the user has allowed by name."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from harness.errors import UserError

HARM = "Load and faults may harm what runs there"


def require_allowed(urls: Iterable[str], allowed: Collection[str], why: str = HARM) -> None:
    """Raise UserError for the first URL whose host is neither loopback nor allowed by name.

    A name is resolved, and every address of it must be loopback: one that is not is where some
    of the load would go. `why` says what the user is asked to think of.
    """
    for url in urls:
        host = urlsplit(url).hostname or ""
        if host in allowed:
            continue
        addresses = resolve(host, url)
        if strange := [address for address in addresses if not _is_loopback(address)]:
            raise UserError(
                f"{url}: {_named(host, strange)} is not this machine. {why}; "
                f"if it is yours to test, say so by --allow-host {host}"
            )


def resolve(host: str, url: str) -> list[str]:
    """Return every address of a host; raise UserError when it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"{url}: the host `{host}` has no address: {error.strerror}") from error
    return sorted({str(entry[4][0]) for entry in found})


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _named(host: str, addresses: list[str]) -> str:
    return host if host in addresses else f"{host} ({', '.join(addresses)})"
