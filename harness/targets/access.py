"""How workers reach Redis: addresses, credentials and TLS files, and what their users may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Login:
    """Credentials of one user; without a name those of the default user, a password alone."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a client: whom it trusts and, where servers ask for that, who it is."""

    ca: str
    certificate: str = ""
    key: str = ""

    @property
    def options(self) -> dict[str, str]:
        """Return redis-py's options, which are those of a `rediss://` URL too."""
        named = {
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
        }
        return {name: path for name, path in named.items() if path}


@dataclass(frozen=True)
class Permissions:
    """ACL rules of the workers' users, on the data nodes and on the sentinels."""

    nodes: tuple[str, ...]
    sentinels: tuple[str, ...]


@dataclass(frozen=True)
class RedisAccess:
    """How a worker reaches Redis: the topology and the announced addresses (host, port)."""

    topology: str  # standalone, sentinel or cluster
    nodes: tuple[tuple[str, int], ...]
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = "mymaster"
    login: Login | None = None  # None: servers ask for no password
    sentinel_login: Login | None = None
    tls: TlsFiles | None = None  # None: plain text

    def url(self, place: str) -> str:
        """Return the URL of a node's `host:port`, or of a service, with database 0."""
        login = self.login
        user = f"{quote(login.user)}:{quote(login.password, safe='')}@" if login else ""
        if self.tls is None:
            return f"redis://{user}{place}/0"
        return f"rediss://{user}{place}/0?{urlencode(self.tls.options, safe='/')}"


def client_options(login: Login | None, tls: TlsFiles | None) -> dict[str, Any]:
    """Return redis-py's options of a connection with these credentials."""
    options: dict[str, Any] = {"ssl": True, **tls.options} if tls else {}
    if login:
        options |= {"username": login.user or None, "password": login.password}
    return options
