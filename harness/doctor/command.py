"""The examination: variables, what they have in common, servers, running replicas."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from harness.doctor import live, servers, variables
from harness.doctor.findings import Finding, as_json, as_text, by_weight, exit_code, masked
from harness.doctor.replicas import compare
from harness.doctor.transports import transports
from harness.doctor.variables import App, Environment
from harness.errors import UserError
from harness.targets.external.description import PASSWORD
from harness.targets.external.hosts import require_allowed


@dataclass(frozen=True)
class Asked:
    """What the command line says. `replicas` 0: as many as there are files."""

    urls: tuple[str, ...] = ()
    admin: str = ""
    env: tuple[Path, ...] = ()
    redis: tuple[str, ...] = ()
    origin: str = ""
    app: App = "runtime"
    replicas: int = 0
    offline: bool = False
    allow_host: tuple[str, ...] = ()
    json: bool = False

    @property
    def anything(self) -> bool:
        """Tell whether a deployment was named at all."""
        return bool(self.urls or self.env or self.redis)


def doctor(asked: Asked) -> int:
    """Print the findings; return 0, or 1 when there is an error or a warning."""
    findings = asyncio.run(examine(asked))
    print(as_json(findings) if asked.json else as_text(findings))
    return int(exit_code(findings))


async def examine(asked: Asked) -> list[Finding]:
    """Return every finding, the worst first; raise UserError for what cannot be asked."""
    require_allowed(_checked(asked.urls), asked.allow_host)
    _checked_redis(asked.redis)
    found: list[Finding] = []
    replicas = max(asked.replicas, len(asked.env), 1)
    environments = [_environment(path, replicas, asked) for path in asked.env]
    for env in environments:
        found += variables.judge(env)
    found += compare(environments)
    if not asked.offline:
        found += await _servers(environments, asked, replicas)
        found += await _live(asked)
    return by_weight(found)


def _environment(path: Path, replicas: int, asked: Asked) -> Environment:
    return Environment(str(path), variables.read_environment(path), replicas, asked.app)


async def _servers(environments: list[Environment], asked: Asked, replicas: int) -> list[Finding]:
    """Ask each different set of servers once."""
    different: dict[frozenset[tuple[str, str]], Environment] = {}
    for env in environments:
        same = frozenset((k, v) for k, v in env.values.items() if k != "INSTANCE_ID")
        different.setdefault(same, env)
    found = [finding for env in different.values() for finding in await servers.look(env)]
    for url in asked.redis:
        env = Environment("", {"REDIS_URL": url}, replicas, asked.app)
        seen = await servers.look(env)
        found += [
            replace(one, where=one.where or masked(url))
            for one in seen
            if one.where != "DATABASE_URL"
        ]
    return found


async def _live(asked: Asked) -> list[Finding]:
    """Ask the running replicas."""
    if not asked.urls:
        return []
    async with live.asking() as http:
        alive, found = await live.answering(http, [url.rstrip("/") for url in asked.urls])
        ways = [await transports(http, url, asked.origin) for url in alive]
        found += [finding for _, said in ways for finding in said]
        if alive and asked.admin:
            token = await live.sign_in(http, alive[0], asked.admin, password())
            found += await _signed_in(http, alive, token, all(opens for opens, _ in ways))
        elif alive:
            found.append(_no_account())
    return found


async def _signed_in(
    http: aiohttp.ClientSession, urls: list[str], token: str, sockets: bool
) -> list[Finding]:
    """Ask what only an account may know; events only where sockets can be opened."""
    refused = await live.tokens(http, urls, token)
    honest = [url for url in urls if url not in {finding.where for finding in refused}]
    found = [*refused, *await live.settings(http, honest, token)]
    if sockets and honest:
        found += await live.events(http, honest, token)
    return found


def _no_account() -> Finding:
    return Finding("not-examined", "note", "--url", "tokens and events were not examined",
                   "no account was given", "replicas that do not hear each other go unnoticed",
                   f"--admin EMAIL, and its password in {PASSWORD}")  # fmt: skip


def password() -> str:
    """Return the account's password; raise UserError when it was not given."""
    if not (found := os.environ.get(PASSWORD, "")):
        raise UserError(f"--admin: no password: put it into the variable {PASSWORD}")
    return found


def _checked(urls: Iterable[str]) -> list[str]:
    """Return the URLs; raise UserError for one that is none."""
    for url in urls:
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise UserError(f"--url {url}: expected http://HOST:PORT, as http://127.0.0.1:8081")
    return list(urls)


def _checked_redis(urls: Iterable[str]) -> None:
    """Raise UserError for what is not the URL of a Redis at all."""
    for url in urls:
        if not url.startswith(("redis://", "rediss://")):
            where = masked(url) if "://" in url else url
            raise UserError(
                f"--redis {where}: expected redis://[USER:PASSWORD@]HOST:PORT (rediss:// for TLS), "
                "such as redis://127.0.0.1:6379"
            )
