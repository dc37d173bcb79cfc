"""Certificates and ACL users for real Redis servers, made for each test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme

from runtime.redis.permissions import acl_rules, sentinel_rules

PREFIX = "secure"
APP, APP_PASSWORD = "app", "p@ss:w/rd#1%"
ADMIN, ADMIN_PASSWORD = "admin", "admin-secret"
WATCHER, WATCHER_PASSWORD = "watcher", "sentinel-secret"
EVERYTHING = ("on", f">{ADMIN_PASSWORD}", "~*", "&*", "+@all")


@dataclass
class Security:
    """TLS files and ACL users of one deployment. `mutual`: clients need a certificate too."""

    folder: Path
    mode: str = "standalone"
    mutual: bool = False
    rules: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        authority = trustme.CA()
        leaf = authority.issue_cert("127.91.0.1", "::1", "localhost", common_name="redis")
        self.ca, self.cert, self.key = (self.folder / f"{n}.pem" for n in ("ca", "cert", "key"))
        authority.cert_pem.write_to_path(self.ca)
        leaf.private_key_pem.write_to_path(self.key)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        self.rules = self.rules or acl_rules(PREFIX, self.mode)

    def _tls(self) -> dict[str, str]:
        return {
            "tls-cert-file": str(self.cert),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.ca),
            "tls-auth-clients": "yes" if self.mutual else "no",
            "tls-replication": "yes",
        }

    def _users(self, *users: tuple[str, ...]) -> list[tuple[str, ...]]:
        return [("user", *user) for user in (("default", "off"), (ADMIN, *EVERYTHING), *users)]

    def words(self, port: int) -> list[str]:
        """Return the options of a data node."""
        options = {**self._tls(), "port": "0", "tls-port": str(port)}
        options |= {"masteruser": ADMIN, "masterauth": ADMIN_PASSWORD}
        options |= {"tls-cluster": "yes"} if self.mode == "cluster" else {}
        app = (APP, "on", f">{APP_PASSWORD}", *self.rules)
        lines = [*options.items(), *self._users(app)]
        return [word for name, *values in lines for word in (f"--{name}", *values)]

    def sentinel_lines(self, port: int) -> str:
        """Return the configuration of a sentinel, whose users are others than the nodes'."""
        watcher = (WATCHER, "on", f">{WATCHER_PASSWORD}", *sentinel_rules())
        lines = [
            *(" ".join(pair) for pair in self._tls().items()),
            *(f"port 0\ntls-port {port}", *(" ".join(user) for user in self._users(watcher))),
            f"sentinel auth-user mymaster {ADMIN}",
            f"sentinel auth-pass mymaster {ADMIN_PASSWORD}",
        ]
        return "\n".join(lines)

    @property
    def query(self) -> str:
        """Return the query of a URL that trusts the servers."""
        own = f"&ssl_certfile={self.cert}&ssl_keyfile={self.key}" if self.mutual else ""
        return f"?ssl_ca_certs={self.ca}{own}"

    def url(self, place: str, user: str = APP, password: str = APP_PASSWORD) -> str:
        """Return the URL of an application at `host:port/db` or `service/db`."""
        return f"rediss://{user}:{quote(password, safe='')}@{place}{self.query}"

    def client_options(self) -> dict[str, Any]:
        """Return redis-py's options of a connection that may do anything."""
        own = {"ssl_certfile": str(self.cert), "ssl_keyfile": str(self.key)} if self.mutual else {}
        tls = {"ssl": True, "ssl_ca_certs": str(self.ca), **own}
        return {"username": ADMIN, "password": ADMIN_PASSWORD, **tls}
