"""How one run's Redis servers are secured: who may log in, and certificates of the run's own.

| `auth` | data nodes | sentinels |
|---|---|---|
| `none` | nobody is asked | the same |
| `password` | one password, of the default user | another one |
| `acl` | a user for each kind of client, with the least that it needs | the same |

All of it is made anew for each run. The authority's own key is never written anywhere.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme

from harness.deploy.folder import RunFolder
from harness.deploy.model import Deployment, Node
from harness.deploy.service import clean_environment
from harness.scenario import Redis
from harness.targets.access import Login, Permissions, RedisAccess, TlsFiles, client_options

# kinds of clients; each may have a user of its own
ADMIN, APP, REPLICA, SENTINEL = "admin", "app", "replica", "sentinel"
USERS = {"redis": (ADMIN, APP, REPLICA, SENTINEL), "sentinel": (ADMIN, APP, SENTINEL)}
PASSWORD_BYTES = 18
AUTHORITY, CERTIFICATE, KEY = "ca.pem", "redis.pem", "redis.key"
LINKS_HOST = "2"  # last number of the address at which all links listen


@dataclass(frozen=True)
class Security:
    """What servers and clients of one run need; by default nothing.

    `logins` has the credentials by kind of server (`redis`, `sentinel`) and kind of client.
    """

    auth: str = "none"
    tls: str = "none"
    logins: Mapping[str, Mapping[str, Login]] = field(default_factory=dict)
    permissions: Permissions | None = None  # of the app's users, with `acl`
    authority: Authority | None = None  # with TLS
    client: TlsFiles | None = None

    def login(self, server: str, client: str) -> Login | None:
        """Return the credentials of a kind of client at a kind of server."""
        return self.logins.get(server, {}).get(client)

    def options(self, server: str) -> dict[str, Any]:
        """Return redis-py's options of a connection that may do anything."""
        return client_options(self.login(server, ADMIN), self.client)

    def opens(self, access: RedisAccess) -> RedisAccess:
        """Return the access with what an application needs to be let in."""
        return replace(
            access,
            login=self.login("redis", APP),
            sentinel_login=self.login("sentinel", APP) if access.sentinels else None,
            tls=self.client,
        )

    def equip(self, node: Node) -> None:
        """Give a node its certificate and the harness's way in."""
        node.login = self.options(node.kind)
        if self.authority is not None:
            self.authority.equip(node)


class Authority:
    """Signs the certificates of one run."""

    def __init__(self, folder: Path, *, mutual: bool) -> None:
        """Write the authority's certificate and, with `mutual`, one for all clients."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self._file = folder / AUTHORITY
        self._ca.cert_pem.write_to_path(self._file)
        own = self._issue(folder, "client", "client.harness") if mutual else ("", "")
        self.client = TlsFiles(str(self._file), *own)

    def equip(self, node: Node) -> None:
        """Write a node's files: its certificate is valid for its address and that of the links."""
        links = f"{node.host.rpartition('.')[0]}.{LINKS_HOST}"
        self._ca.cert_pem.write_to_path(node.directory / AUTHORITY)
        self._issue(node.directory, "redis", node.host, links)

    def _issue(self, folder: Path, name: str, *subjects: str) -> tuple[str, str]:
        """Write certificate and key; return their paths. Only their owner may read the key."""
        leaf = self._ca.issue_cert(*subjects, common_name=name)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.touch(mode=0o600)
        leaf.private_key_pem.write_to_path(key)
        return str(certificate), str(key)


async def make_security(redis: Redis, deployment: Deployment, run: RunFolder) -> Security:
    """Make the passwords, the authority and the rules that the scenario asks for.

    The target tells which rules its users need, so the nodes have to be placed. Raises UserError
    when it cannot tell.
    """
    return await asyncio.to_thread(_make, redis, deployment, run)


def _make(redis: Redis, deployment: Deployment, run: RunFolder) -> Security:
    authority = None
    if redis.tls != "none":
        authority = Authority((run.data / "tls").resolve(), mutual=redis.tls == "mutual")
    return Security(
        redis.auth,
        redis.tls,
        _logins(redis.auth),
        _permissions(deployment) if redis.auth == "acl" else None,
        authority,
        authority.client if authority else None,
    )


def _logins(auth: str) -> dict[str, dict[str, Login]]:
    if auth == "none":
        return {}
    if auth == "password":
        return {server: dict.fromkeys(USERS[server], Login("", _password())) for server in USERS}
    return {
        server: {client: Login(client, _password()) for client in clients}
        for server, clients in USERS.items()
    }


def _password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _permissions(deployment: Deployment) -> Permissions:
    """Ask the target; its workers' variables decide what they need."""
    known = {name: value for name, value in deployment.variables.items() if value is not None}
    environment = clean_environment(*deployment.python_path) | known
    return deployment.target.permissions(deployment.access, environment)
