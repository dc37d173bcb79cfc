"""Redis URLs of all three modes: credentials, TLS, IPv6, several nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.redis.wire import Address
from runtime.settings import SettingsError, parse_hosts

DEFAULT_PORT = 6379


@dataclass(frozen=True)
class RedisUrl:
    """What a URL says. In Sentinel mode the host is the service's name."""

    hosts: tuple[Address, ...]
    username: str | None
    password: str | None
    db: int
    tls: bool
    tls_verify: bool = True
    tls_ca: str | None = None


def _masked(url: str) -> str:
    """Return the URL without its credentials, for messages."""
    return re.sub(r"//[^@/]*@", "//***@", url)


def _wrong(url: str, problem: str) -> SettingsError:
    return SettingsError(
        f"REDIS_URL={_masked(url)}: {problem}; write redis://[user:password@]host:port/db "
        "(rediss:// for TLS; in Sentinel mode the host is the service; a cluster may list several)"
    )


def _parse_one(url: str) -> RedisUrl:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        raise _wrong(url, f"unknown scheme `{parts.scheme}`")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    database = parts.path.strip("/") or "0"
    if not database.isdigit():
        raise _wrong(url, f"`{database}` is no database number")
    try:
        addresses = parse_hosts(hosts, DEFAULT_PORT)
    except ValueError as error:
        raise _wrong(url, str(error)) from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return RedisUrl(
        hosts=addresses,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=int(database),
        tls=parts.scheme == "rediss",
        tls_verify=query.get("ssl_cert_reqs", "required") != "none",
        tls_ca=query.get("ssl_ca_certs"),
    )


def parse_redis_url(text: str) -> RedisUrl:
    """Parse one URL, or several separated by commas whose hosts are joined.

    The first one's credentials and options count. Raises SettingsError.
    """
    urls = [part.strip() for part in re.split(r",\s*(?=rediss?://)", text) if part.strip()]
    if not urls:
        raise SettingsError("REDIS_URL is empty")
    parsed = [_parse_one(url) for url in urls]
    first = parsed[0]
    hosts = tuple(host for each in parsed for host in each.hosts)
    return RedisUrl(
        hosts, first.username, first.password, first.db, first.tls, first.tls_verify, first.tls_ca
    )
