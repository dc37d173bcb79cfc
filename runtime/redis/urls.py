"""Redis URLs of all three modes: credentials, TLS, IPv6, several nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from runtime.redis.tls import OPTIONS, Tls
from runtime.redis.wire import Address
from runtime.settings import SettingsError, parse_hosts

DEFAULT_PORT = 6379
QUERY = ("db", *OPTIONS)
BETWEEN_URLS = re.compile(r",\s*(?=[a-z+]+://)")


@dataclass(frozen=True)
class RedisUrl:
    """What a URL says. In Sentinel mode the host is the service's name."""

    hosts: tuple[Address, ...]
    username: str | None
    password: str | None
    db: int
    tls: Tls | None


def masked_url(text: str) -> str:
    """Return the URL, or URLs, without credentials: for messages."""
    urls = BETWEEN_URLS.split(text)
    shown = [re.sub(r"//.*@", "//***@", url, flags=re.DOTALL) for url in urls]
    return re.sub(r"(?i)(password|username)=[^&,]*", r"\1=***", ",".join(shown))


def parse_redis_url(text: str, variable: str = "REDIS_URL") -> RedisUrl:
    """Parse one URL, or several separated by commas whose hosts are joined.

    The first one's credentials and options count; another that contradicts them is refused.
    Raises SettingsError, which names `variable`.
    """
    urls = [part.strip() for part in BETWEEN_URLS.split(text) if part.strip()]
    if not urls:
        raise SettingsError(f"{variable} is empty; write redis://host:port/db")
    parsed = [_parse_one(url, variable) for url in urls]
    first = parsed[0]
    for url, other in zip(urls, parsed, strict=True):
        if _differs(first, other):
            raise _wrong(variable, url, "its credentials, database or TLS contradict the first URL")
    return replace(first, hosts=tuple(host for each in parsed for host in each.hosts))


def _differs(first: RedisUrl, other: RedisUrl) -> bool:
    """Tell whether a further URL says something else; what it leaves out is the first one's."""
    return (
        other.db != first.db
        or other.username not in (None, first.username)
        or other.password not in (None, first.password)
        or (other.tls is None) != (first.tls is None)
        or (other.tls is not None and other.tls not in (first.tls, Tls()))
    )


def _wrong(variable: str, url: str, problem: str) -> SettingsError:
    return SettingsError(
        f"{variable}={masked_url(url)}: {problem}; write redis://[user:password@]host:port/db "
        "(rediss:// for TLS; in Sentinel mode the host is the service; a cluster may list several)"
    )


def _parse_one(url: str, variable: str) -> RedisUrl:
    try:
        return _parts_of(urlsplit(url))
    except ValueError as error:
        raise _wrong(variable, url, str(error)) from None


def _parts_of(parts: SplitResult) -> RedisUrl:
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError(f"unknown scheme `{parts.scheme}`")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    query = _query(parts)
    return RedisUrl(
        hosts=parse_hosts(hosts, DEFAULT_PORT),
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=_database(query.get("db") or parts.path.strip("/") or "0"),
        tls=Tls.from_query(query) if parts.scheme == "rediss" else None,
    )


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"`{text}` is no database number")
    return int(text)


def _query(parts: SplitResult) -> dict[str, str]:
    """Return the options; one that nobody reads would be a silent mistake."""
    found = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(found.keys() - set(QUERY)):
        raise ValueError(f"unknown option `{unknown[0]}`; known: {', '.join(QUERY)}")
    if parts.scheme == "redis" and (ssl := sorted(found.keys() & OPTIONS.keys())):
        raise ValueError(f"`{ssl[0]}` needs the scheme rediss")
    return found
