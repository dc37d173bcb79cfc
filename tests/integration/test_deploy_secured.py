"""Secured topologies: who gets in and who does not; everything else works as without."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from harness.deploy.model import Node
from harness.deploy.security import APP, CERTIFICATE, REPLICA, SENTINEL, Security
from harness.deploy.service import clean_environment
from harness.deploy.workers import HOOK
from harness.scenario import Redis
from harness.targets.access import client_options
from harness.waiting import wait_for
from tests.live import Live, live
from tests.live import command as impatient

PLAIN: dict[str, Any] = {"ssl": False, "username": None, "password": None}
PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10}  # a handshake on a busy machine
TOPOLOGIES = ("standalone", "sentinel", "cluster")


async def command(node: Node, *words: Any, **options: Any) -> Any:
    """Run a command on a connection of its own; return the reply."""
    return await impatient(node, *words, **PATIENT, **options)


def secrets_of(parts: Live) -> Security:
    """Return what the run made."""
    assert parts.deployment.security is not None
    return parts.deployment.security


async def as_client(parts: Live, node: Node, client: str, *words: Any) -> Any:
    """Run a command on a node as a client of some kind does."""
    security = secrets_of(parts)
    options = PLAIN | client_options(security.login(node.kind, client), security.client)
    return await command(node, *words, **options)


@pytest.mark.parametrize(
    ("topology", "auth"),
    [
        ("standalone", "password"),
        ("sentinel", "password"),
        ("sentinel", "acl"),
        ("cluster", "acl"),
    ],
)
async def test_nobody_gets_in_without_a_password(topology: str, auth: str, tmp_path: Path) -> None:
    """No server answers without; the sentinels' password is another one than the nodes'."""
    async with live(topology, tmp_path, redis=Redis(auth=auth)) as parts:
        nodes, sentinels = parts.deployment.nodes, parts.deployment.sentinels
        for node in (*nodes, *sentinels):
            assert await command(node, "PING")
            with pytest.raises(AuthenticationError):
                await command(node, "PING", **PLAIN)
        swapped = [(node, sentinels) for node in nodes] + [(node, nodes) for node in sentinels]
        for node, others in swapped if sentinels else ():
            with pytest.raises(AuthenticationError):
                await command(node, "PING", **others[0].login)


async def test_users_may_do_what_they_need_and_no_more(tmp_path: Path) -> None:
    """The application has no administration, a replica no data, at the sentinels nobody orders."""
    async with live("sentinel", tmp_path, redis=Redis(auth="acl")) as parts:
        node, sentinel = parts.deployment.nodes[0], parts.deployment.sentinels[0]
        assert await as_client(parts, node, APP, "SET", "open-webui:k", "1")
        named = await as_client(
            parts, sentinel, APP, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"
        )
        assert named == [node.host, str(node.port)]
        for place, client, words in (
            (node, APP, ("SET", "other:k", "1")),
            (node, APP, ("CONFIG", "GET", "requirepass")),
            (node, APP, ("FLUSHALL",)),
            (node, REPLICA, ("GET", "open-webui:k")),
            (node, SENTINEL, ("GET", "open-webui:k")),
            (sentinel, APP, ("SENTINEL", "FAILOVER", "mymaster")),
            (sentinel, SENTINEL, ("SENTINEL", "FAILOVER", "mymaster")),
        ):
            with pytest.raises(NoPermissionError):
                await as_client(parts, place, client, *words)


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_there_is_no_way_around_tls(topology: str, tmp_path: Path) -> None:
    """Neither plain text, nor another authority, nor a client without a certificate."""
    async with live(topology, tmp_path, redis=Redis(tls="mutual")) as parts:
        for node in (*parts.deployment.nodes, *parts.deployment.sentinels):
            own = node.login
            assert await command(node, "PING")
            for options in (
                PLAIN,
                own | {"ssl_ca_certs": None},
                own | {"ssl_certfile": None, "ssl_keyfile": None},
            ):
                with pytest.raises(RedisError):
                    await command(node, "PING", **options)


DIAL = """
import asyncio, sys, redis, redis.asyncio
style, host, ca = sys.argv[1:]
library = redis if style == "sync" else redis.asyncio
client = library.Redis(host=host, ssl=True, ssl_ca_certs=ca, ssl_check_hostname=True)
try:
    print(client.ping() if style == "sync" else asyncio.run(client.ping()))
except redis.ConnectionError as error:
    print(error)
"""


async def test_certificates_are_of_one_node_each(tmp_path: Path) -> None:
    """A dial that is led to another node fails: the name that counts is the announced one.

    The address of the links is in every certificate, for workers whose URL names their link.
    """
    async with live("cluster", tmp_path, redis=Redis(tls="server")) as parts:
        meant, other = parts.deployment.nodes[:2]
        styles = ("sync", "async")
        dials = [_dial(style, meant, link) for link in (meant, other) for style in styles]
        *right, wrong, wrong_too = await asyncio.gather(*dials)
        assert right == ["True", "True"]
        for said in (wrong, wrong_too):
            assert f"certificate is not valid for '{meant.host}'" in said
        names = _names(other.directory / CERTIFICATE)
        assert names == {other.host, f"{parts.deployment.subnet}.2"}


def _names(path: Path) -> set[str]:
    """Return the addresses that a certificate is valid for."""
    found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(address) for address in names.get_values_for_type(x509.IPAddress)}


async def _dial(style: str, meant: Node, link: Node) -> str:
    """Return what a client says that dials one node and is led to another."""
    links = {f"{meant.host}:{meant.port}": f"{link.host}:{link.port}"}
    environment = clean_environment(HOOK) | {"HARNESS_LINKS": json.dumps(links)}
    words = [sys.executable, "-c", DIAL, style, meant.host, meant.login["ssl_ca_certs"]]
    done = await asyncio.to_thread(
        subprocess.run, words, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("topology", "redis"),
    [
        ("sentinel", Redis(auth="password", tls="server")),
        ("sentinel", Redis(auth="acl", tls="mutual")),
        ("cluster", Redis(auth="acl", tls="mutual")),
    ],
)
async def test_a_failover_works_and_the_old_primary_comes_back(
    topology: str, redis: Redis, tmp_path: Path
) -> None:
    """Sentinels and replicas log in everywhere, also at whom they did not know before."""
    async with live(topology, tmp_path, redis=redis) as parts:
        primary = parts.primary_of("open-webui:k")
        await parts.kill(primary)
        await parts.switched(primary)
        await parts.restart(primary, empty=False)

        async def linked() -> bool:
            role, *rest = await command(primary, "ROLE")
            if role == "slave":
                return bool(rest[2] == "connected")
            return bool(rest[1])  # a slow machine made it primary again: then it has replicas

        await wait_for(linked, 20, f"{primary.name} is linked with the others")


@pytest.mark.parametrize(
    ("topology", "redis"),
    [
        ("standalone", Redis(auth="password", tls="server")),
        ("sentinel", Redis(auth="acl", tls="mutual")),
        ("cluster", Redis(auth="acl", tls="mutual")),
    ],
)
async def test_workers_use_their_own_user_and_tls(
    topology: str, redis: Redis, tmp_path: Path
) -> None:
    """They become ready, as their user and nobody else."""
    async with live(topology, tmp_path, 2, redis) as parts:
        login = secrets_of(parts).login("redis", APP)
        assert login is not None
        lists = await asyncio.gather(
            *(command(node, "CLIENT LIST") for node in parts.deployment.nodes)
        )
        users = {c["user"] for some in lists for c in some if c["name"].startswith("worker-")}
        assert users == {login.user or "default"}


async def test_servers_start_with_the_limits_that_operators_are_told(tmp_path: Path) -> None:
    """`maxclients 10000` and `timeout 1800`, unless the scenario says otherwise."""
    async with live("standalone", tmp_path, redis=Redis(config={"timeout": "60"})) as parts:
        found = await command(parts.deployment.nodes[0], "CONFIG GET", "maxclients", "timeout")
        assert found == {"maxclients": "10000", "timeout": "60"}
