"""The documented ACL rules are enough for the whole application, and each of them is needed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bus_cluster import ClusterSet
from bus_servers import SentinelSet, Server, serving, topology_of, until
from secure_parts import ADMIN, APP, PREFIX, Security

from runtime.redis.client import RedisClient
from runtime.redis.errors import RedisDenied
from runtime.redis.permissions import (
    COMMANDS,
    USED_BY_CHECK,
    USED_BY_DIAGNOSTICS,
    acl_rules,
    least_words,
    needed,
)
from runtime.settings import load_settings
from tests.integration.app_deployment import Deployment, User, deployment

SOURCES = Path(__file__).parents[2] / "runtime"


@asynccontextmanager
async def secured(mode: str, folder: Path) -> AsyncIterator[tuple[dict[str, str], list[Server]]]:
    """Run a topology with TLS and ACL users; give a worker's variables and all servers."""
    security = Security(folder / "tls", mode)
    if mode == "standalone":
        async with serving(folder, security=security) as server:
            yield {"REDIS_URL": server.url}, [server]
        return
    found = SentinelSet(folder, security) if mode == "sentinel" else ClusterSet(folder, security)
    try:
        await found.start()
        sentinels = [found.sentinel] if isinstance(found, SentinelSet) else []
        yield found.environment(), [*found.nodes, *sentinels]
    finally:
        found.kill()


async def use_everything(app: Deployment) -> User:
    """Sign in, keep session data, stream to a socket on another worker, stop from there."""
    user = await app.user(0)
    status, answer = await user.call("POST", "/api/v1/session/data", 0, {"theme": "dark"})
    assert status == 200, answer
    await user.connect(1)
    await user.chat_and_stop()
    await user.leave()
    return user


@pytest.mark.parametrize("mode", ["standalone", "sentinel", "cluster"])
async def test_the_rules_suffice(tmp_path: Path, mode: str) -> None:
    """Nothing is denied while the application is used; at its end no connection is left."""
    async with secured(mode, tmp_path) as (environ, servers):
        environ = {**environ, "REDIS_KEY_PREFIX": PREFIX}
        async with deployment(with_redis=False, environ=environ) as app:
            await use_everything(app)
            assert await ours(servers) > 0
            assert await denied(servers) == set()
        await until(lambda: none_left(servers))


async def denied(servers: list[Server]) -> set[tuple[str, str]]:
    """Return (reason, object) of everything that was denied to the application."""
    found = set()
    for server in servers:
        for entry in await server.call("ACL", "LOG"):
            fields = entry if isinstance(entry, dict) else _pairs(entry)
            if fields["username"] != ADMIN:
                found.add((str(fields["reason"]), str(fields["object"])))
    return found


def _pairs(flat: list[object]) -> dict[object, object]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def ours(servers: list[Server]) -> int:
    """Return how many connections the workers have."""
    lists = [await server.call("CLIENT LIST") for server in servers]
    return sum(each["name"].startswith(("w0:", "w1:")) for some in lists for each in some)


async def none_left(servers: list[Server]) -> bool:
    """Return whether no worker has a connection."""
    return await ours(servers) == 0


async def test_each_rule_is_needed_and_named(tmp_path: Path) -> None:
    """Without one permission the error names the command and the rule, and the rest works."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        topology = topology_of(server.url)
        for command in COMMANDS:
            wire = await topology.open("k", "test")
            await server.call("ACL", "SETUSER", APP, f"-{command}")
            with pytest.raises(RedisDenied, match=re.escape(f"+{command}")):
                await wire.call(*least_words(command, f"{PREFIX}:k"))
            await server.call("ACL", "SETUSER", APP, f"+{command}")
            wire.drop()
        await topology.close()


async def test_a_missing_rule_is_no_outage(tmp_path: Path) -> None:
    """The other commands go on, and nothing is sent again that cannot succeed."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        await server.call("ACL", "SETUSER", APP, "-xadd", "-hget")
        topology = topology_of(server.url)
        client = RedisClient(topology, load_settings({"REDIS_URL": server.url}))
        key = f"{PREFIX}:k"
        with pytest.raises(RedisDenied, match=r"\+hget"):
            await client.run(lambda r: r.hget(key, "f"), idempotent=True)
        with pytest.raises(RedisDenied, match="inside a script; ACL LOG names"):
            await client.run(
                lambda r: r.eval("return redis.call('XADD', KEYS[1], '*', 1, 1)", 1, key)
            )
        assert client.available
        assert await client.run(lambda r: r.set(key, 1))
        denials = [e for e in await server.call("ACL", "LOG") if e["username"] == APP]
        assert [int(e["count"]) for e in denials] == [1, 1]
        await client.close()
        await topology.close()


async def test_the_least_words_are_the_servers(tmp_path: Path) -> None:
    """`runtime check` probes permissions with commands of the right length."""
    async with serving(tmp_path) as server:
        for command, words in needed("cluster", 1).items():
            info = await server.call("COMMAND INFO", command)
            found = next(iter(info.values()))["arity"] if isinstance(info, dict) else info[0][1]
            assert (command, abs(found)) == (command, words)


@pytest.mark.parametrize(
    ("words", "rule"),
    [(("GET", "other:k"), "~PREFIX:*"), (("PUBLISH", "other:c", "m"), "&PREFIX:*")],
)
async def test_foreign_names_are_denied(tmp_path: Path, words: list[str], rule: str) -> None:
    """Keys and channels of another prefix are out of reach, and the message says how so."""
    async with serving(tmp_path, security=Security(tmp_path / "tls")) as server:
        topology = topology_of(server.url)
        client = RedisClient(topology, load_settings({"REDIS_URL": server.url}))
        with pytest.raises(RedisDenied, match=re.escape(rule)):
            await client.send(words)
        await client.close()
        await topology.close()


async def test_every_command_of_the_sources_is_in_the_rules(tmp_path: Path) -> None:
    """A command that the sources name is in the rules, or the next operator meets NOPERM."""
    async with serving(tmp_path) as server:
        known = {str(name).upper() for name in await server.call("COMMAND LIST")}
    named = {
        word.upper()
        for path in SOURCES.rglob("*.py")
        for found in re.findall(
            r"redis\.call\(\s*['\"](\w+)|\(\"([A-Z]{3,})\",|\br\.([a-z]+)\(", path.read_text()
        )
        for word in found
        if word
    }
    rules = {rule.removeprefix("+").split("|")[0].upper() for rule in acl_rules("p", "cluster", 1)}
    rules |= {
        "SENTINEL",
        *(rule.split("|")[0].upper() for rule in (*USED_BY_CHECK, *USED_BY_DIAGNOSTICS)),
    }
    assert (named & known) - rules - {"DEBUG"} == set()  # DEBUG is a level of logging
